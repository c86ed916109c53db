"""Speech with known pauses, and the noises of the rooms in which it is heard. Deterministic.

Positions are samples at 16 kHz; signals are float32, shape [n], in [-1, 1) where they are speech.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from bench.audio import VOICED_RMS, Clip
from protocol.pcm import SAMPLE_RATE, Samples, Signal, frame_rms, samples_of, to_signal

FULL_SCALE = 32768.0
PAUSES_MS = (800, 1000, 1500, 2500)
"""Silences between recordings: all end an utterance at the default of 500 ms."""
LEADS_MS = (0, 500, 2000)
"""Silences before a talk's first recording: some connections begin in the middle of things."""
TRAIL_MS = 3_000
"""Silence after the last recording, so that its endpoint shows too."""
TALK_SECONDS = 30.0
"""A talk grows by recordings until it is so long."""
ROOM_RMS = 10.0
"""16-bit units beside a peak of -6 dBFS: the quiet room of references/make.py, so that no silence is digital zero."""
ROOM_PEAK = 0.5
BABBLE_VOICES = 6
HUM_HZ = 50.0
HUM_HARMONICS = 12
FAN_DB = 15.0
"""How much louder a room is while its fan runs ..."""
FAN_SECONDS = 10.0
"""... which is switched so often."""
_SPEAKER = re.compile(r"[a-z]+(?:_[a-z]+)?")


@dataclass(frozen=True, slots=True)
class Placed:
    """A recording in a talk."""

    clip: Clip
    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Talk:
    """What one connection brings: recordings, each at the same peak of 1.0, with known pauses after them."""

    placed: Sequence[Placed]
    signal: Signal
    """With the quiet room's own noise."""
    active_rms: float
    """Of the frames that hold speech, in the signal's own unit."""

    @property
    def pauses(self) -> list[tuple[int, int]]:
        """Known silences between two recordings."""
        return [(one.end, two.start) for one, two in zip(self.placed, self.placed[1:], strict=False)]

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.signal) / SAMPLE_RATE

    def heard(self, peak_dbfs: float, noise: Signal | None, snr_db: float) -> Samples:
        """The talk as a microphone brings it: peak at `peak_dbfs`, and `noise` `snr_db` below its active speech.

        Returns:
            int16, shape [n], clipped where speech and noise together are too loud.
        """
        gain = 10 ** (peak_dbfs / 20)
        mixed = self.signal * np.float32(gain * FULL_SCALE)
        if noise is not None:
            mixed += noise * np.float32(gain * FULL_SCALE * self.active_rms * 10 ** (-snr_db / 20))
        clipped: Samples = np.clip(np.rint(mixed), -32768, 32767).astype(np.int16)
        return clipped


def halves(clips: Sequence[Clip]) -> tuple[list[Clip], list[Clip]]:
    """Two halves, about equally long: one to tune on, one to report. No speaker (`en_austen_...`) is in both."""
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        found = _SPEAKER.match(clip.name)
        groups.setdefault(found[0] if found else clip.name, []).append(clip)
    parts: tuple[list[Clip], list[Clip]] = ([], [])
    for group in sorted(groups.values(), key=lambda each: -sum(clip.frames for clip in each)):
        min(parts, key=lambda part: sum(clip.frames for clip in part)).extend(group)
    return parts


def talks(clips: Sequence[Clip], quieter_db: float = 0.0) -> list[Talk]:
    """Recordings in talks of about 30 s; every second one of each is `quieter_db` quieter than the others."""
    made: list[Talk] = []
    lead = cycle(LEADS_MS)
    taken: list[Clip] = []
    for clip in clips:
        taken.append(clip)
        if sum(each.seconds for each in taken) >= TALK_SECONDS:
            made.append(_talk(taken, next(lead), len(made), quieter_db))
            taken = []
    return [*made, _talk(taken, next(lead), len(made), quieter_db)] if taken else made


def _talk(clips: Sequence[Clip], lead_ms: int, seed: int, quieter_db: float) -> Talk:
    dice = np.random.default_rng(seed)
    pieces = [np.zeros(samples_of(lead_ms), np.float32)]
    placed: list[Placed] = []
    for number, clip in enumerate(clips):
        speech = to_signal(np.frombuffer(clip.pcm, "<i2"))
        peak = 10 ** (-quieter_db / 20) if number % 2 else 1.0
        start = sum(map(len, pieces))
        placed.append(Placed(clip, start, start + len(speech)))
        pause = TRAIL_MS if number == len(clips) - 1 else int(dice.choice(PAUSES_MS))
        pieces += [speech * np.float32(peak / np.abs(speech).max()), np.zeros(samples_of(pause), np.float32)]
    speech = np.concatenate(pieces)
    room = dice.standard_normal(len(speech), np.float32) * np.float32(ROOM_RMS / FULL_SCALE / ROOM_PEAK)
    return Talk(placed, speech + room, _active_rms(speech))


def _active_rms(speech: Signal) -> float:
    """RMS of the frames that would be voice by the default threshold if the peak were at -6 dBFS."""
    rms = frame_rms(speech).astype(np.float64)
    return float(np.sqrt(np.mean(rms[rms * ROOM_PEAK >= VOICED_RMS] ** 2))) / FULL_SCALE


def noises(length: int, seed: int, others: Sequence[Clip]) -> Mapping[str, Signal]:
    """Every noise by name, `length` samples with an RMS of 1; `others` are the recordings that babble is made of."""
    made: Mapping[str, Callable[[np.random.Generator], Signal]] = {
        "white": lambda dice: dice.standard_normal(length, np.float32),
        "pink": lambda dice: _pink(length, dice),
        "hum": lambda dice: _hum(length, dice),
        "babble": lambda dice: _babble(length, dice, others),
        "fan": lambda dice: _fan(length, dice),
    }
    return {
        name: _of_unit_rms(make(np.random.default_rng([seed, number])))
        for number, (name, make) in enumerate(made.items())
    }


STEADY = ("white", "pink", "hum")
"""Noises of constant power; the others come and go."""
NOISES = (*STEADY, "babble", "fan")


def pink(length: int, seed: int) -> Signal:
    """Pink noise, `length` samples with an RMS of 1."""
    return _of_unit_rms(_pink(length, np.random.default_rng(seed)))


def _of_unit_rms(noise: Signal) -> Signal:
    unit: Signal = noise / np.sqrt(np.mean(noise.astype(np.float64) ** 2)).astype(np.float32)
    return unit


def _pink(length: int, dice: np.random.Generator) -> Signal:
    """Power falls by 3 dB an octave from 20 Hz on: white noise, its spectrum divided by the root of the frequency."""
    spectrum = np.fft.rfft(dice.standard_normal(length))
    hertz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    spectrum /= np.sqrt(np.maximum(hertz, 20.0))
    spectrum[hertz < 20.0] = 0
    noise: Signal = np.fft.irfft(spectrum, length).astype(np.float32)
    return noise


def _hum(length: int, dice: np.random.Generator) -> Signal:
    """The mains: 50 Hz and its harmonics, each weaker in proportion to its number, over a little hiss."""
    time = np.arange(length) / SAMPLE_RATE
    tone = np.zeros(length)
    for harmonic in range(1, HUM_HARMONICS + 1):
        tone += np.sin(2 * np.pi * (HUM_HZ * harmonic * time + dice.random())) / harmonic
    return (tone + 0.03 * dice.standard_normal(length)).astype(np.float32)


def _babble(length: int, dice: np.random.Generator, others: Sequence[Clip]) -> Signal:
    """Six people who talk without a pause, equally loud."""
    total = np.zeros(length, np.float32)
    for _ in range(BABBLE_VOICES):
        order = dice.permutation(len(others))
        voice = np.concatenate([_of_unit_rms(to_signal(np.frombuffer(others[each].pcm, "<i2"))) for each in order])
        total += np.resize(np.roll(voice, int(dice.integers(len(voice)))), length)
    return total


def _fan(length: int, dice: np.random.Generator) -> Signal:
    """Pink noise that jumps by 15 dB every 10 s; its mean power counts."""
    noise = _pink(length, dice)
    period = round(FAN_SECONDS * SAMPLE_RATE)
    loud = (np.arange(length) // period) % 2 == 1
    noise[~loud] *= np.float32(10 ** (-FAN_DB / 20))
    return noise
