"""Levels: what a client's meter shows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.level_meter import FRAMES, LevelMeter
from inference.vad import EnergyVad, FixedVad
from protocol.events import Level
from protocol.pcm import FRAME_SAMPLES, Signal, to_signal
from tests.inference.fakes import THRESHOLD, draw

NOISE = np.random.default_rng(1).normal(0, 0.02, 16_000 * 8).astype(np.float32)
"""8 s of steady noise, twice as loud as the threshold."""


def levels(meter: LevelMeter, signal: Signal, cuts: list[int]) -> list[Level]:
    for first, last in pairwise([0, *cuts, len(signal) // FRAME_SAMPLES]):
        meter.frames(signal[first * FRAME_SAMPLES : last * FRAME_SAMPLES], first * FRAME_SAMPLES)
    return meter.take()


def test_a_level_is_the_power_of_five_frames() -> None:
    """RMS over 100 ms, the threshold, and voice if one of the five frames has some."""
    meter = LevelMeter(FixedVad(THRESHOLD))
    meter.frames(to_signal(draw(".....V........V")), 0)

    quiet, loud, last = meter.take()
    assert quiet == Level(100, 0.0, THRESHOLD, voiced=False)
    assert (loud.end_ms, loud.voiced, last.voiced) == (200, True, True)
    assert loud.rms == pytest.approx(2500 / 5**0.5, rel=0.05)
    assert meter.take() == []


@given(st.lists(st.integers(0, len(NOISE) // FRAME_SAMPLES), max_size=20).map(sorted))
def test_levels_do_not_depend_on_how_the_audio_was_cut(cuts: list[int]) -> None:
    """The threshold in effect too is the same, though it follows the noise."""
    whole = levels(LevelMeter(EnergyVad(THRESHOLD)), NOISE, [])

    assert levels(LevelMeter(EnergyVad(THRESHOLD)), NOISE, cuts) == whole
    assert len(whole) == len(NOISE) // FRAME_SAMPLES // FRAMES


def test_the_threshold_follows_the_noise() -> None:
    """Steady noise raises the threshold above itself, and is not voiced."""
    last = levels(LevelMeter(EnergyVad(THRESHOLD)), NOISE, [])[-1]

    assert last.threshold is not None
    assert last.threshold > 1.5 * last.rms
    assert not last.voiced


def test_frames_are_judged_as_without_a_meter() -> None:
    """The meter changes no decision."""
    signal = np.concatenate([NOISE, to_signal(draw("VVVVVVVV..........")), NOISE])

    assert LevelMeter(EnergyVad(THRESHOLD)).frames(signal, 0) == EnergyVad(THRESHOLD).frames(signal)
