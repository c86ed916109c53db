"""The endpoint table's parts: rooms with known noise, ears without a server, and what is counted."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from bench import picture
from bench.audio import Clip, load
from bench.ears import Heard, Utterance, hear, matched, vads
from bench.endpoints import count
from bench.room import NOISES, Placed, Talk, halves, noises, talks
from inference.vad import FixedVad
from protocol.events import Reason
from protocol.pcm import FRAME_SAMPLES, frame_rms, to_signal
from tests.audio import REFERENCES
from tests.server import ROOT

CLIPS = load(REFERENCES)


def frames(start: int, end: int, known: int | None = None) -> Utterance:
    """An utterance whose audio and voice are these frames."""
    first, last = start * FRAME_SAMPLES, end * FRAME_SAMPLES
    return Utterance(first, last, first, last, (known or end + 25) * FRAME_SAMPLES, Reason.ENDPOINT)


def heard(length: int, *utterances: Utterance) -> Heard:
    voiced = np.zeros(length, bool)
    for each in utterances:
        voiced[each.voiced_start // FRAME_SAMPLES : each.voiced_end // FRAME_SAMPLES] = True
    return Heard(list(utterances), voiced)


def test_halves_share_no_speaker_and_are_alike_long() -> None:
    """Every recording is in one half; speakers are told by the names' beginnings."""
    clips = [
        Clip(f"{name}_{i}.wav", bytes(64_000), None, "en", None) for name in ("en_a", "en_b", "de_a") for i in (1, 2)
    ]
    one, two = halves(clips)

    assert sorted(each.name for each in one + two) == sorted(each.name for each in clips)
    assert not {each.name[:4] for each in one} & {each.name[:4] for each in two}
    assert {len(one), len(two)} == {2, 4}


def test_talks_have_known_pauses() -> None:
    """Recordings lie where they are said to lie, at the same peak, with 0.8 s or more after each."""
    made = talks(CLIPS)
    assert [placed.clip for talk in made for placed in talk.placed] == CLIPS
    for talk in made:
        assert min(end - start for start, end in talk.pauses) >= 12_800
        for placed in talk.placed:
            assert np.abs(talk.signal[placed.start : placed.end]).max() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("name", NOISES)
def test_noise_is_as_loud_as_asked(name: str) -> None:
    """At 10 dB the noise has a tenth of the power that speech has while it is spoken; the same seed gives the same."""
    talk = talks(CLIPS)[0]
    noise = noises(len(talk.signal), 5, CLIPS)[name]
    alone = talk.heard(-18, noise, 10).astype(float) - talk.heard(-18, None, 0)

    assert np.sqrt(np.mean(alone**2)) == pytest.approx(talk.active_rms * 32768 * 10 ** (-28 / 20), rel=0.02)
    assert (noise == noises(len(talk.signal), 5, CLIPS)[name]).all()


def test_ears_hear_as_the_server_does() -> None:
    """A recording of three lines is three utterances, each with its pre-roll and 200 ms after its voice."""
    (clip,) = [each for each in CLIPS if each.name == "pauses_meeting.wav"]
    samples = np.concatenate((np.frombuffer(clip.pcm, "<i2"), np.zeros(16_000, np.int16)))
    ears = hear(samples, FixedVad(300))

    assert len(ears.utterances) == 3
    assert all(each.end == each.voiced_end + 3200 for each in ears.utterances)
    assert (ears.voiced == (frame_rms(to_signal(samples)) >= 300)).all()
    assert ears.inside()[ears.voiced].all()


def test_ends_are_matched_one_to_one() -> None:
    """Each expected end takes the first within reach that is still free."""
    assert matched([100, 200, 300], [90, 210, 215, 500], 20) == [-10, 10]
    assert matched([100, 110], [105], 20) == [5]


def test_count() -> None:
    """One utterance that lost its last quarter and ends in time, one that never ends, one that nobody said."""
    clip = Clip("a.wav", bytes(2 * FRAME_SAMPLES * 40), "one two", "en", 1)
    signal = np.zeros(FRAME_SAMPLES * 400, np.float32)
    talk = Talk(
        [Placed(clip, 0, FRAME_SAMPLES * 40), Placed(clip, FRAME_SAMPLES * 100, FRAME_SAMPLES * 140)], signal, 0.1
    )
    clean = heard(400, frames(0, 40), frames(100, 140))
    noisy = heard(400, frames(0, 30), frames(110, 130, known=399), frames(300, 310))
    tally = count(talk, clean, noisy)

    assert (tally.utterances, tally.in_time, tally.voiced, tally.kept) == (2, 1, 80, 50)
    assert (tally.pauses, tally.parted, tally.false_starts) == (1, 1, 1)
    assert tally.later_ms == [-200]


def test_unknown_detectors_are_refused() -> None:
    """By name."""
    with pytest.raises(SystemExit, match="no such detector here: psychic"):
        vads("fixed,psychic")


@pytest.mark.parametrize(
    ("tool", "arguments", "rows"),
    [
        ("endpoints", ["--noises", "white", "--ratios", "10", "--levels=-6"], "cells"),
        ("detectors", ["--rounds", "1"], "rows"),
    ],
)
def test_tools(tmp_path: Path, tool: str, arguments: list[str], rows: str) -> None:
    """Each prints its table and writes what it measured."""
    command = [sys.executable, "-m", f"bench.{tool}", "--json", str(tmp_path / "ran"), *arguments]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    ran = json.loads((tmp_path / "ran").read_text())
    assert "energy" in out
    assert ran["tool"] == tool
    assert len(ran[rows]) >= 4


def test_picture() -> None:
    """The picture that the docs show: five utterances, and a fan that becomes the floor; it is well-formed."""
    seen = picture.watch(picture.scene())
    fan = picture.FAN_AT_MS // 20

    assert len(seen.heard.utterances) == 6
    assert max(seen.floor[:fan]) < 100
    assert 300 < seen.floor[-1] < picture.FAN_RMS
    assert len(ET.fromstring(picture.draw(seen))) > 20  # noqa: S314 - our own
    assert ET.parse(ROOT / "docs" / "endpoints.svg").getroot().tag.endswith("svg")  # noqa: S314 - likewise
