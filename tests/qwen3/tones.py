"""Speech for the tiny checkpoint, which transcribes ten tones as the words one to ten.

`references/train_tiny_qwen3.py` trains on what this module makes, so a test that speaks with `speak` is understood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RATE = 16_000
"""Hz."""
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PITCHES = tuple(300.0 * 10 ** (step / 9) for step in range(10))
"""Hz: from 300 to 3000, each 29 % above the one before."""
TONE_SECONDS = 0.4
RAMP_SECONDS = 0.02
"""A tone swells and fades so long, so that it does not click."""

Signal = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SpeakingStyle:
    """How speech sounds: ranges that `speak` draws from. These suit a test of the server.

    The loudest and the softest tone are an RMS of 9300 and 2300 in 16-bit units, the noise is one of 16: far on either
    side of the 300 from which a frame is voiced. No gap is as long as the 500 ms that end an utterance.
    """

    gap: tuple[float, float] = (0.05, 0.35)
    """Seconds between two tones."""
    lead: tuple[float, float] = (0.1, 0.3)
    """Seconds before the first."""
    trail: tuple[float, float] = (0.1, 0.3)
    """Seconds after the last."""
    loudness: tuple[float, float] = (0.1, 0.4)
    """Amplitude of a tone; full scale is 1."""
    noise: tuple[float, float] = (0.0005, 0.0005)
    """RMS of the noise under everything."""


PLAIN = SpeakingStyle()


@dataclass(frozen=True, slots=True)
class Speech:
    """Words and their audio."""

    words: tuple[str, ...]
    starts: tuple[int, ...]
    """The sample at which each word's tone begins."""
    signal: Signal

    @property
    def text(self) -> str:
        """The transcript."""
        return " ".join(self.words)

    @property
    def pcm(self) -> bytes:
        """The signal as PCM16LE."""
        return (np.clip(self.signal, -1, 1) * 32_767).astype("<i2").tobytes()


def speak(words: Sequence[str], seed: int, style: SpeakingStyle = PLAIN) -> Speech:
    """Say `words`, each one of WORDS. The same seed sounds the same."""
    rng = np.random.default_rng(seed)
    return _speak(words, rng, style)


def random_speech(seconds: float, seed: int, style: SpeakingStyle = PLAIN) -> Speech:
    """Say random words for about `seconds`, at most a word longer."""
    rng = np.random.default_rng(seed)
    each = TONE_SECONDS + sum(style.gap) / 2
    edges = (sum(style.lead) + sum(style.trail)) / 2
    count = max(1, round((seconds - edges) / each))
    return _speak([WORDS[index] for index in rng.integers(len(WORDS), size=count)], rng, style)


def background_noise(seconds: float, seed: int, rms: float = 0.0005) -> Signal:
    """Noise without words."""
    rng = np.random.default_rng(seed)
    return (rms * rng.standard_normal(round(seconds * RATE))).astype(np.float32)


def _speak(words: Sequence[str], rng: np.random.Generator, style: SpeakingStyle) -> Speech:
    tone = round(TONE_SECONDS * RATE)
    waits = [rng.uniform(*style.lead), *rng.uniform(*style.gap, size=max(0, len(words) - 1))]
    starts = [round(sum(waits[: index + 1]) * RATE) + index * tone for index in range(len(words))]
    end = (starts[-1] + tone if words else round(waits[0] * RATE)) + round(rng.uniform(*style.trail) * RATE)
    signal = rng.uniform(*style.noise) * rng.standard_normal(end)
    for word, start in zip(words, starts, strict=True):
        signal[start : start + tone] += rng.uniform(*style.loudness) * _tone(PITCHES[WORDS.index(word)], rng)
    return Speech(tuple(words), tuple(starts), signal.astype(np.float32))


def _tone(pitch: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """One tone of amplitude 1, at a random phase."""
    seconds = np.arange(round(TONE_SECONDS * RATE)) / RATE
    swell = np.minimum(1, np.minimum(seconds, TONE_SECONDS - seconds) / RAMP_SECONDS)
    wave: npt.NDArray[np.float64] = swell * np.sin(2 * np.pi * (pitch * seconds + rng.uniform()))
    return wave
