"""An utterance's audio and its spans."""

from __future__ import annotations

import numpy as np
import pytest

from backends.whisper.recording import LONGEST_SPAN, Recording
from protocol.pcm import SAMPLE_RATE, Signal


def talk(seconds: float, pause_at: float) -> Signal:
    """Noise with 300 ms of silence."""
    signal = np.random.default_rng(0).normal(0, 0.1, int(seconds * SAMPLE_RATE)).astype(np.float32)
    first = int(pause_at * SAMPLE_RATE)
    signal[first : first + SAMPLE_RATE * 3 // 10] = 0
    return signal


def recorded(signal: Signal, piece: int = 4001) -> Recording:
    made = Recording()
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
    made = recorded(talk(29.0, 20.0))
    assert made.spans(len(made)) == [(0, len(made))]


@pytest.mark.parametrize("piece", [320, 4001, 10**7])
def test_a_long_utterance_is_cut_where_it_is_quiet(piece: int) -> None:
    """The cut lies in the pause, whatever the pieces in which the audio came."""
    made = recorded(talk(40.0, 26.0), piece)
    (first, cut), (second, end) = made.spans(len(made))
    assert (first, second, end) == (0, cut, 40 * SAMPLE_RATE)
    assert 26.0 <= cut / SAMPLE_RATE <= 26.3


def test_spans_depend_on_nothing_behind_them() -> None:
    """The spans of a beginning are those of a recording that ends there."""
    signal = talk(100.0, 26.0)
    made = recorded(signal)
    for samples in (SAMPLE_RATE, LONGEST_SPAN, LONGEST_SPAN + 1, 60 * SAMPLE_RATE, len(signal)):
        spans = made.spans(samples)
        assert spans == recorded(signal[:samples]).spans(samples)
        assert all(end - start <= LONGEST_SPAN for start, end in spans)
