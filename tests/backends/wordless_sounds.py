"""Sounds without words, of eight kinds, made by formula. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from protocol.pcm import SAMPLE_RATE, Samples

Dice = np.random.Generator
_Sound = npt.NDArray[np.float64]

LOWEST_RMS, HIGHEST_RMS = 300, 3000
"""In 16-bit units; the server's voice activity detection opens from 300."""
_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.6, 4.0
_SILENCE_SECONDS = 1.0
"""Before and after each."""


def sounds(each: int, seed: int = 0) -> list[tuple[str, Samples]]:
    """`each` of every kind, with its name: louder and louder, in silence. The thresholds were set with seed 0."""
    levels = np.geomspace(LOWEST_RMS, HIGHEST_RMS, each)
    return [
        (kind, _placed(make, np.random.default_rng([number, index, seed] if seed else [number, index]), level))
        for number, (kind, make) in enumerate(KINDS.items())
        for index, level in enumerate(levels)
    ]


def _placed(make: Callable[[int, Dice], _Sound], dice: Dice, level: float) -> Samples:
    length = int(dice.uniform(_SHORTEST_SECONDS, _LONGEST_SECONDS) * SAMPLE_RATE)
    sound = make(length, dice)
    sound *= level / np.sqrt(np.square(sound).mean())
    sound += dice.normal(0, 5, length)
    silence = dice.normal(0, 5, int(_SILENCE_SECONDS * SAMPLE_RATE))
    placed = np.concatenate((silence, sound, silence))
    return np.clip(placed, -32768, 32767).astype(np.int16)


def _coloured(length: int, dice: Dice, exponent: float) -> _Sound:
    """Noise whose power falls with the frequency to the power of `exponent`, from 20 Hz on."""
    spectrum = np.fft.rfft(dice.standard_normal(length))
    hertz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    spectrum /= np.maximum(hertz, 20.0) ** (exponent / 2)
    noise: _Sound = np.fft.irfft(spectrum, length)
    return noise


def _time(length: int) -> _Sound:
    return np.arange(length) / SAMPLE_RATE


def _hum(length: int, dice: Dice) -> _Sound:
    base = float(dice.choice([50.0, 60.0, 100.0, 120.0]))
    tones = [np.sin(2 * np.pi * (base * n * _time(length) + dice.random())) / n for n in range(1, 9)]
    hum: _Sound = np.sum(tones, axis=0)
    return hum


def _music(length: int, dice: Dice) -> _Sound:
    """Chords of three plucked notes, changing every 250 to 500 ms."""
    sound = np.zeros(length)
    at = 0
    while at < length:
        note = int(dice.uniform(0.25, 0.5) * SAMPLE_RATE)
        time = _time(min(note, length - at))
        for semitone in dice.choice([0, 2, 4, 5, 7, 9, 11, 12], 3, replace=False):
            hertz = 220.0 * 2 ** (semitone / 12)
            for n in range(1, 6):
                sound[at : at + len(time)] += np.sin(2 * np.pi * hertz * n * time) * np.exp(-3 * n * time) / n
        at += note
    return sound


def _breath(length: int, dice: Dice) -> _Sound:
    """Noise of 400 to 4000 Hz that swells and fades in 0.8 to 1.5 s."""
    spectrum = np.fft.rfft(dice.standard_normal(length))
    hertz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    spectrum[(hertz < 400) | (hertz > 4000)] = 0
    period = dice.uniform(0.8, 1.5)
    breath: _Sound = np.fft.irfft(spectrum, length) * np.sin(np.pi * _time(length) / period) ** 2
    return breath


def _clicks(length: int, dice: Dice) -> _Sound:
    """Keys and knocks: 5 to 12 a second, each 30 ms of decaying noise."""
    sound = dice.normal(0, 0.003, length)
    for at in dice.integers(0, length, max(3, int(dice.uniform(5, 12) * length / SAMPLE_RATE))):
        click = dice.standard_normal(int(0.03 * SAMPLE_RATE)) * np.exp(-np.arange(int(0.03 * SAMPLE_RATE)) / 80)
        sound[at : at + len(click)] += click[: length - at]
    return sound


def _ringing(length: int, dice: Dice) -> _Sound:
    """A telephone's two tones, on and off."""
    low, high = dice.choice([(350, 440), (440, 480), (400, 450), (697, 1209), (852, 1336)])
    time = _time(length)
    on = np.sin(2 * np.pi * dice.uniform(0.5, 12) * time) > -0.5
    tones: _Sound = (np.sin(2 * np.pi * low * time) + np.sin(2 * np.pi * high * time)) * on
    return tones


KINDS: Mapping[str, Callable[[int, Dice], _Sound]] = {
    "white noise": lambda length, dice: _coloured(length, dice, 0),
    "pink noise": lambda length, dice: _coloured(length, dice, 1),
    "brown noise": lambda length, dice: _coloured(length, dice, 2),
    "hum": _hum,
    "music": _music,
    "breath": _breath,
    "clicks": _clicks,
    "ringing": _ringing,
}
