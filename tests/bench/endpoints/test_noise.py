"""Scenes with known noise, segmentation without a server, and the counts of the table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.common.noisy_scenes import NOISES, Scene, make_noises, make_scenes, split_by_speaker
from bench.common.offline_segmentation import Segmentation, Utterance, end_delays, segment, vad_factories
from bench.common.recordings import Recording, load
from bench.endpoints.noise import count
from inference.vad import FixedVad
from protocol.pcm import FRAME_SAMPLES, frame_rms, to_signal
from tests.audio import REFERENCES
from tests.server import ROOT

RECORDINGS = load(REFERENCES)


def frames(start: int, end: int, decided_at: int | None = None) -> Utterance:
    """An utterance whose audio and voice are these frames."""
    first, last = start * FRAME_SAMPLES, end * FRAME_SAMPLES
    return Utterance(first, last, first, last, (decided_at or end + 25) * FRAME_SAMPLES, ended_by_silence=True)


def segmentation(length: int, *utterances: Utterance) -> Segmentation:
    voiced = np.zeros(length, bool)
    for each in utterances:
        voiced[each.voiced_start // FRAME_SAMPLES : each.voiced_end // FRAME_SAMPLES] = True
    return Segmentation(list(utterances), voiced)


def test_tuning_and_report_sets_share_no_speaker() -> None:
    """Every recording is in one of the two sets, and both are alike long. Names begin with the speaker."""
    clips = [Recording(f"{name}_{i}.wav", bytes(64_000), "", "en") for name in ("en_a", "en_b", "de_a") for i in (1, 2)]
    one, two = split_by_speaker(clips)

    assert sorted(each.name for each in one + two) == sorted(each.name for each in clips)
    assert not {each.name[:4] for each in one} & {each.name[:4] for each in two}
    assert {len(one), len(two)} == {2, 4}


def test_scenes_have_known_pauses() -> None:
    """Each pause is silent but for the room, holds no speech, lasts 0.8 s or longer; the peak of speech is 1."""
    for scene in make_scenes(RECORDINGS):
        assert 0.3 < scene.speech_frames.mean() < 0.9
        assert min(end - start for start, end in scene.pauses) >= 12_800
        for start, end in scene.pauses:
            assert np.abs(scene.signal[start:end]).max() < 0.01
            assert not scene.speech_frames[-(-start // FRAME_SAMPLES) : end // FRAME_SAMPLES].any()
            assert np.abs(scene.signal[:start]).max() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("name", NOISES)
def test_noise_is_as_loud_as_asked(name: str) -> None:
    """At 10 dB the noise has a tenth of the power that speech has while it is spoken; the same seed gives the same."""
    scene = make_scenes(RECORDINGS)[0]
    noise = make_noises(len(scene.signal), 5, RECORDINGS)[name]
    alone = scene.mix(-18, noise, 10).astype(float) - scene.mix(-18, None, 0)

    assert np.sqrt(np.mean(alone**2)) == pytest.approx(scene.active_rms * 32768 * 10 ** (-28 / 20), rel=0.02)
    assert (noise == make_noises(len(scene.signal), 5, RECORDINGS)[name]).all()


def test_segmentation_is_the_server_s() -> None:
    """A recording of three lines is three utterances, each with its pre-roll and 200 ms after its voice."""
    (recording,) = [each for each in RECORDINGS if each.name == "pauses_meeting.wav"]
    samples = np.concatenate((np.frombuffer(recording.pcm, "<i2"), np.zeros(16_000, np.int16)))
    result = segment(samples, FixedVad(300))

    assert len(result.utterances) == 3
    assert all(each.end == each.voiced_end + 3200 for each in result.utterances)
    assert (result.voiced == (frame_rms(to_signal(samples)) >= 300)).all()
    assert result.utterance_frames()[result.voiced].all()


def test_ends_are_matched_one_to_one() -> None:
    """Each expected end takes the first within reach that is still free."""
    assert end_delays([100, 200, 300], [90, 210, 215, 500], 20) == [-10, 10]
    assert end_delays([100, 110], [105], 20) == [5]


def test_count() -> None:
    """One utterance lost its last quarter and ends in time, one never ends, and two have no voice in the clean run.

    One of these holds a word below the threshold, so only the other is a false start.
    """
    pauses = [(FRAME_SAMPLES * 40, FRAME_SAMPLES * 100)]
    spoken = np.isin(np.arange(400), [*range(40), *range(100, 140), *range(200, 204)])
    scene = Scene(pauses, np.zeros(FRAME_SAMPLES * 400, np.float32), 0.1, spoken)
    clean = segmentation(400, frames(0, 40), frames(100, 140))
    noisy = segmentation(400, frames(0, 30), frames(110, 130, decided_at=399), frames(202, 210), frames(300, 310))
    counts = count(scene, clean, noisy)

    assert (counts["utterances"], counts["in_time"], counts["voiced"], counts["kept"]) == (2, 1, 80, 50)
    assert (counts["pauses"], counts["separated"], counts["false_utterances"]) == (1, 1, 1)
    assert counts["later_ms"] == [-200]


def test_unknown_detectors_are_refused() -> None:
    """The error names the detector."""
    with pytest.raises(SystemExit, match="unknown detector: psychic"):
        vad_factories(["fixed", "psychic"])


def test_noise_command(tmp_path: Path) -> None:
    """The command prints its tables and writes one cell for each detector and condition."""
    command = [sys.executable, "-m", "bench.endpoints", "noise", "--json", str(tmp_path / "report")]
    command += ["--noises", "white", "--ratios", "10", "--levels=-6"]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    report = json.loads((tmp_path / "report").read_text())
    assert "energy" in out
    assert report["tool"] == "endpoints noise"
    assert len(report["cells"]) >= 4
