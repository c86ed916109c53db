"""Scenes: speech with known pauses, mixed with noise. Deterministic.

Positions are samples at 16 kHz. Signals are float32, shape [n]; speech lies in [-1, 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.common.recordings import VOICED_RMS, Recording
from protocol.pcm import SAMPLE_RATE, Samples, Signal, frame_rms, samples_of, to_signal

FULL_SCALE = 32768.0
PAUSES_MS = (800, 1000, 1500, 2500)  # silences between recordings; an endpoint needs 500 by default
LEADS_MS = (0, 500, 2000)  # silences before the first recording of a scene; 0: the connection starts within speech
TRAIL_MS = 3_000  # silence after the last recording, so that its endpoint is reached
SCENE_SECONDS = 30.0  # a scene gets recordings until it is so long
ROOM_RMS = 10.0  # noise of a quiet room in 16-bit units, as in references/make.py
ROOM_PEAK = 0.5  # peak of the speech in that room (-6 dBFS)
BABBLE_VOICES = 6
HUM_HZ, HUM_HARMONICS = 50.0, 12
FAN_DB = 15.0  # level of the room with the fan above the room without
FAN_SECONDS = 10.0  # the fan is switched on or off so often
STEADY = ("white", "pink", "hum")  # noises of constant power
NOISES = (*STEADY, "babble", "fan")
SPOKEN_DB = 26.0  # a frame holds speech when it is at most so much below the mean of the speech
_SPEAKER = re.compile(r"[a-z]+(?:_[a-z]+)?")


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Audio of one connection: recordings with known pauses between them, each with a peak of 1.0."""

    pauses: Sequence[tuple[int, int]]  # start and end of each silence between two recordings
    signal: Signal  # speech and the noise of a quiet room
    active_rms: float  # RMS of the frames with speech, in the unit of `signal`
    spoken: npt.NDArray[np.bool_]  # whether each whole frame of 20 ms holds speech, soft speech too; shape [n]

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.signal) / SAMPLE_RATE

    def mixed(self, peak_dbfs: float, noise: Signal | None, snr_db: float) -> Samples:
        """The scene with its peak at `peak_dbfs` and with `noise` `snr_db` below the RMS of its speech.

        Returns:
            int16, shape [n], clipped to the range of int16.
        """
        gain = 10 ** (peak_dbfs / 20)
        total = self.signal * np.float32(gain * FULL_SCALE)
        if noise is not None:
            total += noise * np.float32(gain * FULL_SCALE * self.active_rms * 10 ** (-snr_db / 20))
        clipped: Samples = np.clip(np.rint(total), -32768, 32767).astype(np.int16)
        return clipped


def halves(recordings: Sequence[Recording]) -> tuple[list[Recording], list[Recording]]:
    """Two halves of about equal length: to tune on, and to report. No speaker (`en_austen_...`) is in both."""
    groups: dict[str, list[Recording]] = {}
    for recording in recordings:
        groups.setdefault(speaker(recording.name), []).append(recording)
    parts: tuple[list[Recording], list[Recording]] = ([], [])
    for group in sorted(groups.values(), key=_seconds, reverse=True):
        min(parts, key=_seconds).extend(group)
    return parts


def speaker(name: str) -> str:
    """Who speaks in a recording of this name; several readers of one collection count as one."""
    found = _SPEAKER.match(name)
    return found[0] if found else name


def _seconds(recordings: Sequence[Recording]) -> float:
    return sum(each.seconds for each in recordings)


def scenes(recordings: Sequence[Recording]) -> list[Scene]:
    """The recordings in scenes of about 30 s."""
    made: list[Scene] = []
    taken: list[Recording] = []
    for number, recording in enumerate(recordings, 1):
        taken.append(recording)
        if _seconds(taken) >= SCENE_SECONDS or number == len(recordings):
            made.append(_scene(taken, len(made)))
            taken = []
    return made


def _scene(recordings: Sequence[Recording], number: int) -> Scene:
    generator = np.random.default_rng(number)
    pieces = [np.zeros(samples_of(LEADS_MS[number % len(LEADS_MS)]), np.float32)]
    pauses: list[tuple[int, int]] = []
    for recording in recordings:
        speech = to_signal(np.frombuffer(recording.pcm, "<i2"))
        last = recording is recordings[-1]
        silence = samples_of(TRAIL_MS if last else int(generator.choice(PAUSES_MS)))
        pieces += [speech / np.abs(speech).max(), np.zeros(silence, np.float32)]
        if not last:
            end = sum(map(len, pieces))
            pauses.append((end - silence, end))
    speech = np.concatenate(pieces)
    room = generator.standard_normal(len(speech), np.float32) * np.float32(ROOM_RMS / FULL_SCALE / ROOM_PEAK)
    active = _active_rms(speech)
    spoken = frame_rms(speech) >= active * FULL_SCALE * 10 ** (-SPOKEN_DB / 20)
    return Scene(pauses, speech + room, active, spoken)


def _active_rms(speech: Signal) -> float:
    """RMS of the frames that are voiced by the default threshold when the peak is at -6 dBFS."""
    rms = frame_rms(speech).astype(np.float64)
    return float(np.sqrt(np.mean(rms[rms * ROOM_PEAK >= VOICED_RMS] ** 2))) / FULL_SCALE


def noises(length: int, seed: int, others: Sequence[Recording]) -> Mapping[str, Signal]:
    """Each noise by name: `length` samples with an RMS of 1. Babble is made of the recordings `others`."""
    generators = [np.random.default_rng([seed, number]) for number in range(len(NOISES))]
    made = (
        generators[0].standard_normal(length, np.float32),
        _pink(length, generators[1]),
        _hum(length, generators[2]),
        _babble(length, generators[3], others),
        _fan(length, generators[4]),
    )
    return dict(zip(NOISES, map(_of_unit_rms, made), strict=True))


def pink(length: int, seed: int) -> Signal:
    """Pink noise, `length` samples with an RMS of 1."""
    return _of_unit_rms(_pink(length, np.random.default_rng(seed)))


def _of_unit_rms(noise: Signal) -> Signal:
    unit: Signal = noise / np.sqrt(np.mean(noise.astype(np.float64) ** 2)).astype(np.float32)
    return unit


def _pink(length: int, generator: np.random.Generator) -> Signal:
    """White noise with its spectrum divided by the root of the frequency: power falls by 3 dB an octave from 20 Hz."""
    spectrum = np.fft.rfft(generator.standard_normal(length))
    hertz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    spectrum /= np.sqrt(np.maximum(hertz, 20.0))
    spectrum[hertz < 20.0] = 0
    noise: Signal = np.fft.irfft(spectrum, length).astype(np.float32)
    return noise


def _hum(length: int, generator: np.random.Generator) -> Signal:
    """Mains hum: 50 Hz and harmonics with amplitudes of 1 / number, and a little white noise."""
    time = np.arange(length) / SAMPLE_RATE
    tone = np.zeros(length)
    for harmonic in range(1, HUM_HARMONICS + 1):
        tone += np.sin(2 * np.pi * (HUM_HZ * harmonic * time + generator.random())) / harmonic
    return (tone + 0.03 * generator.standard_normal(length)).astype(np.float32)


def _babble(length: int, generator: np.random.Generator, others: Sequence[Recording]) -> Signal:
    """Six voices without pauses, equally loud."""
    total = np.zeros(length, np.float32)
    for _ in range(BABBLE_VOICES):
        order = generator.permutation(len(others))
        voice = np.concatenate([_of_unit_rms(to_signal(np.frombuffer(others[each].pcm, "<i2"))) for each in order])
        total += np.resize(np.roll(voice, int(generator.integers(len(voice)))), length)
    return total


def _fan(length: int, generator: np.random.Generator) -> Signal:
    """Pink noise whose level changes by 15 dB every 10 s."""
    noise = _pink(length, generator)
    period = round(FAN_SECONDS * SAMPLE_RATE)
    loud = (np.arange(length) // period) % 2 == 1
    noise[~loud] *= np.float32(10 ** (-FAN_DB / 20))
    return noise
