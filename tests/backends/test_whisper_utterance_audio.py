"""An utterance's audio and its spans."""

from __future__ import annotations

import numpy as np
import pytest

from backends.whisper.utterance_audio import DECODED_QUIET, MAX_SPAN, UtteranceAudio
from protocol.pcm import SAMPLE_RATE, Signal


def speech_with_pause(seconds: float, pause_at: float) -> Signal:
    """Noise with 300 ms of silence."""
    signal = np.random.default_rng(0).normal(0, 0.1, int(seconds * SAMPLE_RATE)).astype(np.float32)
    first = int(pause_at * SAMPLE_RATE)
    signal[first : first + SAMPLE_RATE * 3 // 10] = 0
    return signal


def recorded(signal: Signal, piece: int = 4001) -> UtteranceAudio:
    made = UtteranceAudio()
    for start in range(0, len(signal), piece):
        made.append(signal[start : start + piece])
    return made


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_silence(bad: float) -> None:
    """Samples that are not finite become zeros, the others stay."""
    made = recorded(np.array([0.5, bad, -0.25], np.float32))
    assert made.cut(0, 3).tolist() == [0.5, 0.0, -0.25]


def test_zeros_are_not_audible() -> None:
    """An utterance is audible from its first sample that is not zero."""
    made = recorded(np.array([0, 0, 0.1], np.float32))
    assert not made.audible(2)
    assert made.audible(3)
    assert not recorded(np.full(9, np.nan, np.float32)).audible(9)


def test_an_utterance_that_fits_is_one_span() -> None:
    """Up to the longest span nothing is cut."""
    made = recorded(speech_with_pause(29.0, 20.0))
    assert made.spans(len(made)) == [(0, len(made))]


@pytest.mark.parametrize("piece", [320, 4001, 10**7])
def test_a_long_utterance_is_cut_where_it_is_quiet(piece: int) -> None:
    """The cut lies in the pause, whatever the pieces in which the audio came."""
    made = recorded(speech_with_pause(40.0, 26.0), piece)
    (first, cut), (second, end) = made.spans(len(made))
    assert (first, second, end) == (0, cut, 40 * SAMPLE_RATE)
    assert 26.0 <= cut / SAMPLE_RATE <= 26.3


def test_spans_depend_on_nothing_behind_them() -> None:
    """The spans of a beginning are those of a recording that ends there."""
    signal = speech_with_pause(100.0, 26.0)
    made = recorded(signal)
    for samples in (SAMPLE_RATE, MAX_SPAN, MAX_SPAN + 1, 60 * SAMPLE_RATE, len(signal)):
        spans = made.spans(samples)
        assert spans == recorded(signal[:samples]).spans(samples)
        assert all(end - start <= MAX_SPAN for start, end in spans)


def fading(loud: float, soft: float) -> Signal:
    """A second of noise, then half a second of softer noise; RMS in 16-bit units."""
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE * 3 // 2) / 32768
    return np.concatenate((noise[:SAMPLE_RATE] * loud, noise[SAMPLE_RATE:] * soft)).astype(np.float32)


def test_quiet_behind_the_last_sound_changes_no_span() -> None:
    """However much quiet was pushed, a span ends the same short time behind the sound."""
    signal = fading(6000, 100)
    for samples in (SAMPLE_RATE + DECODED_QUIET, SAMPLE_RATE + 4800, len(signal)):
        made = recorded(signal[:samples], 800)
        assert made.spans(samples) == [(0, SAMPLE_RATE + DECODED_QUIET)]
        assert made.quiet() == samples // 320 * 320 - SAMPLE_RATE


@pytest.mark.parametrize(("loud", "soft"), [(6000, 400), (20_000, 400), (400, 50)])
def test_soft_speech_is_no_quiet(loud: float, soft: float) -> None:
    """What voice activity detection may call voice stays in the span, however loud it was before."""
    made = recorded(fading(loud, soft))
    assert made.spans(len(made)) == [(0, len(made))]
    assert made.quiet() == 0
