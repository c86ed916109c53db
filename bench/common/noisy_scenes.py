"""Makes scenes: speech with known pauses, mixed with noise. The same input gives the same scenes.

Positions are samples at 16 kHz. Signals are float32, shape [n]; speech lies in [-1, 1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.common.recordings import VOICED_RMS, Recording
from protocol.pcm import SAMPLE_RATE, Samples, Signal, frame_rms, samples_of, to_signal

FULL_SCALE = 32768.0
PAUSES_MS = (800, 1000, 1500, 2500)  # silences between recordings; an endpoint needs 500 by default
LEADS_MS = (0, 500, 2000)  # silences before the first recording of a scene; 0: the connection starts within speech
TRAIL_MS = 3_000  # silence after the last recording, so that its endpoint is reached
SCENE_SECONDS = 30.0  # shortest scene; the last one may be shorter
ROOM_RMS = 10.0  # noise of a quiet room in 16-bit units, as in references/make.py
ROOM_PEAK = 0.5  # peak of the speech in that room (-6 dBFS)
BABBLE_VOICES = 6
HUM_HZ, HUM_HARMONICS = 50.0, 12
FAN_DB = 15.0  # level of the room with the fan above the room without
FAN_SECONDS = 10.0  # time until the fan is switched on or off
STEADY = ("white", "pink", "hum")  # noises of constant power
NOISES = (*STEADY, "babble", "fan")
SPEECH_RANGE_DB = 26.0  # a frame with speech is at most this much below the RMS of the speech
_SPEAKER = re.compile(r"[a-z]+(?:_[a-z]+)?")


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Audio of one connection: recordings with known pauses between them, each with a peak of 1.0."""

    pauses: Sequence[tuple[int, int]]  # start and end of each silence between two recordings
    signal: Signal  # speech and the noise of a quiet room
    active_rms: float  # RMS of the frames with speech, in the unit of `signal`
    speech_frames: npt.NDArray[np.bool_]  # whether each whole frame of 20 ms has speech, even soft speech; shape [n]

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return len(self.signal) / SAMPLE_RATE

    def mix(self, peak_dbfs: float, noise: Signal | None, snr_db: float) -> Samples:
        """Return the scene with its peak at `peak_dbfs`, mixed with `noise` `snr_db` below the RMS of its speech.

        Returns:
            Samples of int16, shape [n], clipped to the range of int16.
        """
        gain = 10 ** (peak_dbfs / 20)
        total = self.signal * np.float32(gain * FULL_SCALE)
        if noise is not None:
            total += noise * np.float32(gain * FULL_SCALE * self.active_rms * 10 ** (-snr_db / 20))
        clipped: Samples = np.clip(np.rint(total), -32768, 32767).astype(np.int16)
        return clipped


def split_by_speaker(recordings: Sequence[Recording]) -> tuple[list[Recording], list[Recording]]:
    """Split the recordings into a tuning and a report set of similar length. No speaker is in both."""
    groups: dict[str, list[Recording]] = {}
    for recording in recordings:
        groups.setdefault(speaker(recording.name), []).append(recording)
    parts: tuple[list[Recording], list[Recording]] = ([], [])
    for group in sorted(groups.values(), key=_seconds, reverse=True):
        min(parts, key=_seconds).extend(group)
    return parts


def speaker(name: str) -> str:
    """Return the speaker that a recording's name begins with. The readers of a collection count as one speaker."""
    match = _SPEAKER.match(name)
    return match[0] if match else name


def _seconds(recordings: Sequence[Recording]) -> float:
    return sum(each.seconds for each in recordings)


def make_scenes(recordings: Sequence[Recording]) -> list[Scene]:
    """Join the recordings to scenes of about 30 s."""
    scenes: list[Scene] = []
    group: list[Recording] = []
    for number, recording in enumerate(recordings, 1):
        group.append(recording)
        if _seconds(group) >= SCENE_SECONDS or number == len(recordings):
            scenes.append(_make_scene(group, len(scenes)))
            group = []
    return scenes


def _make_scene(recordings: Sequence[Recording], number: int) -> Scene:
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
    active_rms = _active_rms(speech)
    speech_frames = frame_rms(speech) >= active_rms * FULL_SCALE * 10 ** (-SPEECH_RANGE_DB / 20)
    return Scene(pauses, speech + room, active_rms, speech_frames)


def _active_rms(speech: Signal) -> float:
    """Return the RMS of the frames that are voiced by the default threshold when the peak is at -6 dBFS."""
    rms = frame_rms(speech).astype(np.float64)
    return float(np.sqrt(np.mean(rms[rms * ROOM_PEAK >= VOICED_RMS] ** 2))) / FULL_SCALE


def make_noises(length: int, seed: int, babble: Sequence[Recording]) -> dict[str, Signal]:
    """Return each noise by name: `length` samples with an RMS of 1. `babble`: the recordings for the babble noise."""
    generators = [np.random.default_rng([seed, number]) for number in range(len(NOISES))]
    noises = (
        generators[0].standard_normal(length, np.float32),
        _pink(length, generators[1]),
        _hum(length, generators[2]),
        _babble(length, generators[3], babble),
        _fan(length, generators[4]),
    )
    return dict(zip(NOISES, map(_to_unit_rms, noises), strict=True))


def pink(length: int, seed: int) -> Signal:
    """Return pink noise: `length` samples with an RMS of 1."""
    return _to_unit_rms(_pink(length, np.random.default_rng(seed)))


def _to_unit_rms(noise: Signal) -> Signal:
    scaled: Signal = noise / np.sqrt(np.mean(noise.astype(np.float64) ** 2)).astype(np.float32)
    return scaled


def _pink(length: int, generator: np.random.Generator) -> Signal:
    """Return white noise with its spectrum divided by the root of the frequency: -3 dB per octave from 20 Hz on."""
    spectrum = np.fft.rfft(generator.standard_normal(length))
    hertz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    spectrum /= np.sqrt(np.maximum(hertz, 20.0))
    spectrum[hertz < 20.0] = 0
    noise: Signal = np.fft.irfft(spectrum, length).astype(np.float32)
    return noise


def _hum(length: int, generator: np.random.Generator) -> Signal:
    """Return mains hum: 50 Hz and harmonics with amplitudes of 1 / number, and a little white noise."""
    time = np.arange(length) / SAMPLE_RATE
    tone = np.zeros(length)
    for harmonic in range(1, HUM_HARMONICS + 1):
        tone += np.sin(2 * np.pi * (HUM_HZ * harmonic * time + generator.random())) / harmonic
    return (tone + 0.03 * generator.standard_normal(length)).astype(np.float32)


def _babble(length: int, generator: np.random.Generator, speech: Sequence[Recording]) -> Signal:
    """Return the mix of six voices without pauses, equally loud."""
    total = np.zeros(length, np.float32)
    for _ in range(BABBLE_VOICES):
        order = generator.permutation(len(speech))
        voice = np.concatenate([_to_unit_rms(to_signal(np.frombuffer(speech[each].pcm, "<i2"))) for each in order])
        total += np.resize(np.roll(voice, int(generator.integers(len(voice)))), length)
    return total


def _fan(length: int, generator: np.random.Generator) -> Signal:
    """Return pink noise whose level changes by 15 dB every 10 s."""
    noise = _pink(length, generator)
    period = round(FAN_SECONDS * SAMPLE_RATE)
    loud = (np.arange(length) // period) % 2 == 1
    noise[~loud] *= np.float32(10 ** (-FAN_DB / 20))
    return noise
