"""Rooms, talkers and clients, and what the detectors make of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.base import StreamOptions
from bench.common.offline_segmentation import Utterance, segment
from inference.segmenter import SegmenterOptions
from inference.utterance_pipeline import UtterancePipeline
from inference.vad import EnergyVad, FixedVad, Vad
from protocol.events import Reason
from protocol.pcm import FRAME_SAMPLES, SAMPLE_RATE, Signal, samples_of, to_signal
from tests.audio import REFERENCES, reference
from tests.inference.fakes import Engine

THRESHOLD = 300.0
NAMES = sorted(path.stem for path in REFERENCES.glob("*.wav"))


def noise(seconds: float, rms: float, seed: int = 0) -> Signal:
    """White noise, in 16-bit units."""
    made = np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE), np.float32)
    return made * np.float32(rms)


def vowel(seconds: float, rms: float, pitch: float = 120.0) -> Signal:
    """A held note with the harmonics of a voice, in 16-bit units."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * pitch * harmonic * time) / harmonic for harmonic in range(1, 12))
    return np.asarray(tone / np.sqrt(np.mean(np.square(tone))) * rms, np.float32)


def silence(seconds: float) -> Signal:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def words(count: int, rms: float) -> Signal:
    """Syllables of 200 ms with closures of 60 ms between them."""
    return np.concatenate([part for _ in range(count) for part in (vowel(0.2, rms), silence(0.06))])


def tone(seconds: float, rms: float, *hertz: float) -> Signal:
    """Frequencies of equal power, in 16-bit units."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    waves = sum(np.sin(2 * np.pi * each * time + number) for number, each in enumerate(hertz))
    return np.asarray(waves * rms * np.sqrt(2 / len(hertz)), np.float32)


def speech(name: str, rms: float) -> Signal:
    """A recording from its first voiced frame on, at this RMS, in a quiet room."""
    audio = said(name)
    loudness = np.sqrt(np.mean(np.square(audio), dtype=np.float64))
    audio = room(audio * np.float32(rms / loudness), silence(1))
    return audio[utterances(audio)[0].voiced_start :]


def said(name: str) -> Signal:
    return np.frombuffer(reference(name), "<i2").astype(np.float32)


def room(*parts: Signal, rms: float = 10.0) -> Signal:
    """What is said, one thing after the other, in a room with this noise."""
    joined = np.concatenate(parts)
    return joined + noise(len(joined) / SAMPLE_RATE, rms, seed=7)[: len(joined)]


def utterances(audio: Signal, vad: Callable[[float], Vad] = EnergyVad) -> list[Utterance]:
    return segment(np.clip(np.rint(audio), -32768, 32767).astype(np.int16), vad(THRESHOLD)).utterances


def spans(audio: Signal, vad: Callable[[float], Vad] = EnergyVad) -> list[tuple[float, float]]:
    """Voice of each utterance in seconds."""
    return [(each.voiced_start / SAMPLE_RATE, each.voiced_end / SAMPLE_RATE) for each in utterances(audio, vad)]


def judged(vad: Vad, signal: Signal, cuts: Sequence[int]) -> tuple[list[float], list[bool]]:
    """All frames, though the audio comes in calls cut there; what is under a frame comes again, as in a listener."""
    loudness: list[float] = []
    voiced: list[bool] = []
    for cut in [*cuts, len(signal)]:
        fresh = vad.frames(signal[len(voiced) * FRAME_SAMPLES : cut])
        loudness += fresh[0]
        voiced += fresh[1]
    return loudness, voiced


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(
        st.tuples(st.sampled_from([0.0, 5.0, 200.0, 800.0, 4000.0]), st.integers(1, 90)), min_size=1, max_size=12
    ),
    dice=st.randoms(use_true_random=False),
)
def test_cuts_make_no_difference(parts: list[tuple[float, int]], dice: random.Random) -> None:
    """Frame by frame, in odd pieces or all at once: the same frames are voice."""
    audio = np.concatenate([noise(frames * 0.02, rms, seed) for seed, (rms, frames) in enumerate(parts)]) / 32768
    signal = np.asarray(audio, np.float32)
    cuts = sorted(dice.randint(0, len(signal)) for _ in range(dice.randint(0, 40)))
    each = list(range(FRAME_SAMPLES, len(signal), FRAME_SAMPLES))
    whole = judged(EnergyVad(THRESHOLD), signal, [])

    assert judged(EnergyVad(THRESHOLD), signal, cuts) == whole
    assert judged(EnergyVad(THRESHOLD), signal, each) == whole


def test_nothing_to_judge() -> None:
    """Less than a frame is no frame."""
    assert EnergyVad(THRESHOLD).frames(silence(0.01)) == ([], [])


@pytest.mark.parametrize("name", NAMES)
def test_a_quiet_room_is_judged_by_the_threshold_alone(name: str) -> None:
    """Every recording of references/ is heard as with a fixed threshold, to the frame."""
    signal = to_signal(np.frombuffer(reference(name), "<i2"))

    assert EnergyVad(THRESHOLD).frames(signal) == FixedVad(THRESHOLD).frames(signal)


@pytest.mark.parametrize("rms", [400.0, 800.0])
@pytest.mark.parametrize("name", NAMES)
def test_utterances_end_in_a_noisy_room(name: str, rms: float) -> None:
    """Where the room itself is over the threshold, a recording is one utterance, or as many as it has lines."""
    audio = room(silence(2), said(name), silence(2), rms=rms)
    lines = len((REFERENCES / f"{name}.txt").read_text().splitlines())
    clean = spans(room(silence(2), said(name), silence(2)))
    found = spans(audio)

    assert len(spans(audio, FixedVad)) == 1
    assert len(found) == len(clean) == lines
    for (start, end), (clean_start, clean_end) in zip(found, clean, strict=True):
        assert abs(start - clean_start) < 0.3
        assert abs(end - clean_end) < 0.3


def test_a_connection_may_begin_in_noise() -> None:
    """What is loud and steady from the first sample on is the room, and no utterance."""
    assert utterances(room(silence(6), rms=1000.0)) == []


def test_a_connection_may_begin_in_noise_and_speech() -> None:
    """Speech from the first sample on is heard, and ends although the room was never heard alone."""
    ((start, end),) = spans(room(words(8, 4000.0), silence(2), rms=800.0))

    assert start < 0.3
    assert 2.0 < end < 2.2


def test_a_connection_may_begin_in_a_vowel() -> None:
    """What seems to be a room until it stops costs no audio beyond what the pre-roll gives back."""
    (first,) = utterances(room(vowel(0.24, 3000.0), silence(0.06), words(6, 3000.0), silence(2)))

    assert first.start == 0


def test_a_held_vowel_is_voice() -> None:
    """A note of 4 s is heard to its end, in a quiet room and in a loud one."""
    for rms in (10.0, 800.0):
        ((start, end),) = spans(room(silence(2), vowel(4.0, 3000.0), silence(3), rms=rms))
        assert (start, end) == pytest.approx((2.0, 6.0), abs=0.03)


def test_a_fan_becomes_the_room() -> None:
    """Somebody switches on a fan: the utterance that it opens ends within 5 s, and speech is heard over it."""
    fan = np.concatenate((noise(3, 30.0), noise(10, 1000.0, seed=1)))
    found = utterances(fan)
    speech_over_it = np.concatenate(
        (fan, noise(4, 1000.0, seed=2) + np.concatenate((words(8, 4000.0), silence(2)))[: 4 * SAMPLE_RATE])
    )

    assert [each.decided_at <= samples_of(8_100) for each in found] == [True]
    assert len(utterances(speech_over_it)) == 2


def test_a_quiet_talker_follows_a_loud_one() -> None:
    """A voice 22 dB below the one before it is heard, from its first syllable on."""
    (_, (start, end)) = spans(room(silence(1), words(10, 6000.0), silence(0.9), words(8, 500.0), silence(2), rms=30.0))

    assert start == pytest.approx(4.5, abs=0.03)
    assert end == pytest.approx(6.52, abs=0.05)


def test_the_room_quietens() -> None:
    """When the fan goes off, a quiet talker is heard again within a second."""
    fan = np.concatenate((noise(8, 1000.0), noise(1, 20.0)))
    (talker,) = spans(
        np.concatenate((fan, words(6, 500.0) + noise(1.56, 20.0)[: len(words(6, 500.0))], noise(2, 20.0)))
    )

    assert talker[0] == pytest.approx(9.0, abs=0.03)


def test_a_muted_client_says_nothing_of_the_room() -> None:
    """Zeros, sent or filled in for audio that was dropped, do not make the noise after them voice.

    Noise that comes out of nothing, at a connection's start, is voice until it has lasted a second.
    """
    muted = np.concatenate((noise(3, 800.0), silence(6), noise(4, 800.0, seed=1)))

    assert utterances(muted) == []
    ((start, end),) = spans(np.concatenate((silence(3), noise(4, 800.0))))
    assert start == pytest.approx(3, abs=0.02)
    assert end - start < 1.6


def test_nothing_below_the_threshold_is_voice() -> None:
    """STT_VAD_THRESHOLD governs: a voice far above the room but below it is not heard."""
    assert utterances(room(silence(1), words(10, 200.0), silence(1), rms=2.0)) == []


def test_sound_between_digital_silences_is_no_room() -> None:
    """Whatever a gate lets through: tones of a second, but for one that is a connection's first sound."""
    beeps = np.concatenate([part for _ in range(8) for part in (vowel(1.0, 3000), silence(1.0))])
    for audio, count in ((beeps, 7), (np.concatenate([silence(1.0), beeps]), 8)):
        found = spans(audio)
        assert len(found) == count
        assert all(end - start > 0.9 for start, end in found)


DRIFTS = {
    "DC 1000": lambda time: 1000 + 0 * time,
    "DC 2000": lambda time: 2000 + 0 * time,
    "DC that ramps": lambda time: 3000 * time,
    "DC that steps": lambda time: np.where(time < 1.5, 0, 3000),
    "1 Hz": lambda time: 3000 * np.sin(2 * np.pi * time),
    "10 Hz": lambda time: 3000 * np.sin(2 * np.pi * 10 * time),
    "19 Hz": lambda time: 3000 * np.sin(2 * np.pi * 19 * time),
}


@pytest.mark.parametrize("drift", DRIFTS.values(), ids=DRIFTS)
def test_a_microphone_that_drifts(drift: Callable[[Signal], Signal]) -> None:
    """Under speech of RMS 1000 a DC offset or drift below 20 Hz changes two frames at most, and alone is no voice."""
    audio = np.concatenate((silence(1), speech("weather", 1000.0)))
    time: Signal = np.arange(len(audio), dtype=np.float32) / np.float32(SAMPLE_RATE)
    added = np.asarray(drift(time), np.float32)
    signals = (np.asarray(each / 32768, np.float32) for each in (audio, audio + added, added))
    still, moved, alone = (EnergyVad(THRESHOLD).frames(each)[1] for each in signals)

    assert sum(still) > 100
    assert sum(before != after for before, after in zip(still, moved, strict=True)) <= 2
    assert sum(alone) <= 1


SOUNDS = {
    "hold tone": tone(8, 3000.0, 440),
    "hold tone as loud as the speech": tone(8, 1000.0, 1000),
    "dial tone": tone(8, 3000.0, 350, 440),
    "fax": tone(8, 3000.0, 2100),
    "busy tone": np.tile(np.concatenate((tone(0.5, 3000.0, 425), silence(0.5))), 8),
    "ring-back tone": np.concatenate((tone(2, 3000.0, 440, 480), silence(4), tone(2, 3000.0, 440, 480))),
    "dialling": np.tile(np.concatenate((tone(0.1, 3000.0, 697, 1209), silence(0.1), tone(0.1, 3000.0, 941, 1336))), 25),
    "mains hum": tone(8, 1000.0, 50, 100, 150, 200),
    "gain that rises": np.asarray(noise(20, 1.0) * np.geomspace(20, 800, 20 * SAMPLE_RATE), np.float32),
}


@pytest.mark.parametrize("sound", SOUNDS.values(), ids=SOUNDS)
@pytest.mark.parametrize("name", ["weather", "meeting"])
def test_speech_that_follows_at_once(name: str, sound: Signal) -> None:
    """Whatever sound a call begins with, speech is noticed within 200 ms of its end."""
    audio = room(sound, speech(name, 1000.0))
    during = [each for each in spans(audio) if each[1] > len(sound) / SAMPLE_RATE + 0.2]

    assert during[0][0] < len(sound) / SAMPLE_RATE + 0.2


def test_a_tone_is_followed_by_silence() -> None:
    """A hold tone that stops ends its utterance and opens no other one."""
    assert spans(room(tone(8, 3000.0, 440), silence(3))) == []
    assert len(spans(room(silence(2), tone(8, 3000.0, 440), silence(3)))) == 1


def test_commits_do_not_hide_a_fan() -> None:
    """A client that commits twice a second has the room followed as any other."""
    vad = EnergyVad(THRESHOLD)
    listener = UtterancePipeline(vad, SegmenterOptions(), Engine().open, StreamOptions())
    audio = np.concatenate([noise(3, 20), noise(8, 600)])
    for first in range(0, len(audio), samples_of(400)):
        listener.feed_signal((audio[first : first + samples_of(400)] / 32768).astype(np.float32))
        listener.end(Reason.COMMIT)
    assert vad.floor > 400
