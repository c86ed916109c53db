"""Detects speech that is played too fast because its sample rate was given too high. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protocol.pcm import Signal

MIN_SECONDS = 3.0
"""Shorter speech does not show its speed."""
MIN_RATE = 16_000
"""Hz; lower rates are not checked."""

_FRAME_SECONDS, _HOP_SECONDS = 0.032, 0.010
_PITCH_HZ = (65, 600)
_BAND_EDGES_HZ = np.geomspace(100, 7_000, 17)
_MODULATION_HZ = (1, 25)
_MIN_PERIODICITY = 0.45
"""Autocorrelation at which a frame is voiced."""
_MIN_VOICED, _MIN_VOICED_SHARE = 40, 0.25
"""Least number of voiced frames, and least share of them among the loud frames, in speech."""
_LOUD = 0.05
"""Least energy of a loud frame, as a share of the 90th percentile."""
_MIN_DEPTH = 1.7
"""Standard deviation of the bands' levels, as logarithms of energy: speech 2 to 3.5, in noise at 5 dB 1.4."""
_MAX_TEMPO = 1.9
"""Largest centre of the modulation spectrum, as a logarithm of Hz: speech at twice its speed has up to 1.65, dialling
2.1."""
_FLOOR = 1e-6
_WEIGHTS = np.array([-0.243, 2.766, 2.011, 4.651])
_OFFSET = -12.929
"""Linear discriminant of speech at its own and at twice its speed, fitted by `python -m tools.wrong_labels --fit`:
pitch, centre of the spectrum, centre of the modulation spectrum, and change from frame to frame, as logarithms.
docs/notes/wrong-labels.md."""


@dataclass(frozen=True, slots=True)
class _Spectra:
    power: npt.NDArray[np.floating]
    """[frames, bins]"""
    frequencies: npt.NDArray[np.floating]
    """Hz, [bins]."""


def likeness_to_double_speed(signal: Signal, rate: int) -> float:
    """How much the signal, float32 [n] at `rate` Hz, resembles speech at twice its speed; below 0: not at all.

    Minus infinity if it is too short, or not speech.
    """
    values = features(signal, rate)
    return float("-inf") if values is None else float(values @ _WEIGHTS + _OFFSET)


def features(signal: Signal, rate: int) -> npt.NDArray[np.floating] | None:
    """The four features of `_WEIGHTS`; None: too short, or no speech."""
    if rate < MIN_RATE or len(signal) < MIN_SECONDS * rate:
        return None
    step = rate // MIN_RATE
    # The mean of neighbours: nothing above 8 kHz is needed.
    signal, rate = signal[: len(signal) // step * step].reshape(-1, step).mean(axis=1), rate // step
    spectra = _spectra(signal, rate)
    tempo = _tempo(spectra)
    if tempo is None:
        return None
    energy = spectra.power.sum(axis=1)
    loud = spectra.power[energy > _LOUD * np.percentile(energy, 90)]
    periods, periodicity = _pitch(loud, rate)
    voiced = periodicity > _MIN_PERIODICITY
    if voiced.sum() < _MIN_VOICED or voiced.mean() < _MIN_VOICED_SHARE:
        return None
    pitch = np.log(rate / np.median(periods[voiced]))
    return np.array([pitch, _centre(loud[voiced], spectra.frequencies), *tempo])


def _spectra(signal: Signal, rate: int) -> _Spectra:
    length, hop = round(rate * _FRAME_SECONDS), round(rate * _HOP_SECONDS)
    frames = np.lib.stride_tricks.sliding_window_view(signal, length)[::hop]
    frames = (frames - frames.mean(axis=1, keepdims=True)) * np.hanning(length).astype(np.float32)
    return _Spectra(np.abs(np.fft.rfft(frames, axis=1)) ** 2, np.fft.rfftfreq(length, 1 / rate))


def _pitch(power: npt.NDArray[np.floating], rate: int) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Each frame's period in samples, and how periodic it is, up to 1."""
    correlation = np.fft.irfft(power, axis=1)
    first, last = rate // _PITCH_HZ[1], rate // _PITCH_HZ[0]
    part = correlation[:, first:last] / (correlation[:, :1] + _FLOOR)
    return part.argmax(axis=1) + float(first), part.max(axis=1)


def _centre(power: npt.NDArray[np.floating], frequencies: npt.NDArray[np.floating]) -> float:
    """Logarithm of the Hz around which the spectrum lies, each frame counting the same."""
    heard = (frequencies >= 90) & (frequencies <= 8_000)
    mean = (power / power.sum(axis=1, keepdims=True)).mean(axis=0)[heard]
    return float(np.log(frequencies[heard]) @ mean / mean.sum())


def _tempo(spectra: _Spectra) -> tuple[float, float] | None:
    """Logarithms of the Hz with which the bands rise and fall, and of their change from frame to frame.

    None: they do so less than those of speech, in noise or a steady sound, or faster.
    """
    first = np.searchsorted(spectra.frequencies, _BAND_EDGES_HZ)
    bands = np.add.reduceat(spectra.power, first, axis=1)[:, :-1] / np.diff(first)
    levels = np.log(bands + _FLOOR * bands.max() + _FLOOR**2)
    levels -= levels.mean(axis=0)
    depth = float(levels.std(axis=0).mean())
    if depth < _MIN_DEPTH:
        return None
    change = float(np.abs(np.diff(levels, axis=0)).mean()) / depth
    modulation = (np.abs(np.fft.rfft(levels * np.hanning(len(levels))[:, np.newaxis], axis=0)) ** 2).sum(axis=1)
    at = np.fft.rfftfreq(len(levels), _HOP_SECONDS)
    heard = (at > _MODULATION_HZ[0]) & (at < _MODULATION_HZ[1])
    tempo = float(np.log(at[heard]) @ modulation[heard] / modulation[heard].sum())
    return (tempo, float(np.log(change))) if tempo < _MAX_TEMPO else None
