"""Detects speech that is played too fast because its sample rate was given too high. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.fft import irfft, rfft, rfftfreq

from protocol.pcm import Signal

MIN_SECONDS = 3.0
"""Shorter speech does not show its speed."""
MIN_RATE = 16_000
"""Hz; lower rates are not checked."""

_FRAME_SECONDS, _HOP_SECONDS = 0.032, 0.010
_BLOCK = 100
"""Frames that are transformed at once. All at once would take twice as long: they exceed the processor's cache."""
_PITCH_HZ = (65, 600)
_WIDE_BANDS_HZ = np.geomspace(100, 7_000, 17)
_MEL_BANDS_HZ = 700 * (np.geomspace(1 + 90 / 700, 1 + 7_000 / 700, 26) - 1)
_MODULATION_HZ = (1, 25)
_MIN_PERIODICITY = 0.45
"""Autocorrelation at which a frame is voiced."""
_MIN_VOICED, _MIN_VOICED_SHARE = 20, 0.25
"""Least number of voiced frames, and least share of them, in speech, of every second loud frame."""
_LOUD = 0.05
"""Least energy of a loud frame, as a share of the 90th percentile."""
_MIN_DEPTH = 1.7
"""Standard deviation of the bands' levels, as logarithms of energy: speech 2 to 3.5, in noise at 5 dB 1.4."""
_MAX_TEMPO = 1.9
"""Largest centre of the modulation spectrum, as a logarithm of Hz: speech at twice its speed has up to 1.65, dialling
2.1."""
_FLOOR = 1e-6
_GROUPS = 5
"""Groups of bands whose features are averaged."""
_LAGS = (1, 4, 16)
"""Frames of 10 ms between which the change of the levels is measured: a sound, a transition, a syllable."""
_WEIGHTS = np.array(
    [
        0.781, 0.249,
        -0.23, 0.833, 0.819, -0.722, 0.513,
        6.269, 9.149, -2.793, -1.464, 2.589,
        -1.185, 2.117, 1.847, 1.965, 0.11,
        -0.878, -0.815, 0.234, -2.857, -0.006,
    ]
)  # fmt: skip
_OFFSET = -13.104
"""Linear discriminant of speech at its own and at twice its speed, fitted by `python -m tools.wrong_labels --fit`.
docs/notes/wrong-labels.md."""


@dataclass(frozen=True, slots=True)
class _Spectra:
    power: npt.NDArray[np.floating]
    """[frames, bins]"""
    frequencies: npt.NDArray[np.floating]
    """Hz, [bins]."""


def double_speed_score(signal: Signal, rate: int) -> float:
    """How much the signal, float32 [n] at `rate` Hz, resembles speech at twice its speed; below 0: not at all.

    Minus infinity if it is too short, or not speech.
    """
    values = features(signal, rate)
    return float("-inf") if values is None else float(values @ _WEIGHTS + _OFFSET)


def features(signal: Signal, rate: int) -> npt.NDArray[np.floating] | None:
    """The features of `_WEIGHTS`, float64 [22]; None: too short, or no speech.

    Pitch and centre of the spectrum, as logarithms; then, for five groups of bands from low to high, how much their
    levels spread, and how much of that they change within 10, 40 and 160 ms.
    """
    if rate < MIN_RATE or len(signal) < MIN_SECONDS * rate:
        return None
    step = rate // MIN_RATE
    # The mean of neighbours: nothing above 8 kHz is needed.
    signal = np.add.reduce([signal[first : len(signal) // step * step : step] for first in range(step)]) / step
    rate //= step
    spectra = _spectra(signal, rate)
    if not _has_speech_modulation(_band_levels(spectra, _WIDE_BANDS_HZ)):
        return None
    energy = spectra.power.sum(axis=1)
    is_loud = energy > _LOUD * _quantile(energy, 0.9)
    loud = spectra.power[is_loud][::2]
    periods, periodicity = _pitch(loud, rate)
    voiced = periodicity > _MIN_PERIODICITY
    if voiced.sum() < _MIN_VOICED or voiced.mean() < _MIN_VOICED_SHARE:
        return None
    pitch = np.log(rate / _quantile(periods[voiced], 0.5))
    changes = _changes(_band_levels(spectra, _MEL_BANDS_HZ), is_loud)
    return np.array([pitch, _centre(loud[voiced], spectra.frequencies), *changes])


def _quantile(values: npt.NDArray[np.floating], share: float) -> float:
    """As np.quantile and np.median, whose first call imports numpy.ma: that takes 120 ms."""
    return float(np.sort(values)[int(share * len(values))])


def _spectra(signal: Signal, rate: int) -> _Spectra:
    length, hop = round(rate * _FRAME_SECONDS), round(rate * _HOP_SECONDS)
    frames = np.lib.stride_tricks.sliding_window_view(signal, length)[::hop]
    window = np.hanning(length).astype(np.float32)
    size = 1 << (length - 1).bit_length()  # 706 samples, as at 22,050 Hz, would take four times as long
    power = np.empty((len(frames), size // 2 + 1), np.float32)
    for first in range(0, len(frames), _BLOCK):
        block = frames[first : first + _BLOCK]
        spectra = rfft((block - block.mean(axis=1, keepdims=True)) * window, size, axis=1)
        power[first : first + _BLOCK] = np.square(spectra.real) + np.square(spectra.imag)
    return _Spectra(power, rfftfreq(size, 1 / rate))


def _pitch(power: npt.NDArray[np.floating], rate: int) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Each frame's period in samples, and how periodic it is, up to 1."""
    correlation = irfft(power, axis=1)
    first, last = rate // _PITCH_HZ[1], rate // _PITCH_HZ[0]
    part = correlation[:, first:last]
    return part.argmax(axis=1) + float(first), part.max(axis=1) / (correlation[:, 0] + _FLOOR)


def _centre(power: npt.NDArray[np.floating], frequencies: npt.NDArray[np.floating]) -> float:
    """Logarithm of the Hz around which the spectrum lies, each frame counting the same."""
    audible = (frequencies >= 90) & (frequencies <= 8_000)
    mean = (power / power.sum(axis=1, keepdims=True)).mean(axis=0)[audible]
    return float(np.log(frequencies[audible]) @ mean / mean.sum())


def _band_levels(spectra: _Spectra, edges: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Logarithms of the bands' energy, without each band's mean: [frames, bands]."""
    first = np.searchsorted(spectra.frequencies, edges)
    bands = np.add.reduceat(spectra.power, first, axis=1)[:, :-1] / np.diff(first)
    levels: npt.NDArray[np.floating] = np.log(bands + _FLOOR * bands.max() + _FLOOR**2)
    levels -= levels.mean(axis=0)
    return levels


def _has_speech_modulation(levels: npt.NDArray[np.floating]) -> bool:
    """Whether the bands' levels change as those of speech: less in noise and steady sounds, faster in dialling."""
    if float(levels.std(axis=0).mean()) < _MIN_DEPTH:
        return False
    modulation = (np.abs(rfft(levels * np.hanning(len(levels))[:, np.newaxis], axis=0)) ** 2).sum(axis=1)
    at = rfftfreq(len(levels), _HOP_SECONDS)
    audible = (at > _MODULATION_HZ[0]) & (at < _MODULATION_HZ[1])
    return float(np.log(at[audible]) @ modulation[audible] / modulation[audible].sum()) < _MAX_TEMPO


def _changes(levels: npt.NDArray[np.floating], is_loud: npt.NDArray[np.bool_]) -> npt.NDArray[np.floating]:
    """How much the levels spread in loud frames, and change of that within each lag, by groups of bands."""
    spread = levels[is_loud].std(axis=0) + _FLOOR
    values = [spread]
    for lag in _LAGS:
        either = is_loud[lag:] | is_loud[:-lag]
        values.append(np.abs(levels[lag:] - levels[:-lag])[either].mean(axis=0) / spread)
    return np.concatenate([each.reshape(_GROUPS, -1).mean(axis=1) for each in values])
