"""Voice that is too quiet for the threshold, and what is no voice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.base import StreamOptions
from bench.common.noisy_scenes import pink
from inference.quiet_voice import QuietVoiceFinder
from inference.segmenter import SegmenterOptions
from inference.utterance_pipeline import UtterancePipeline
from inference.vad import EnergyVad
from protocol import events
from protocol.events import WarningCode
from protocol.pcm import SAMPLE_RATE, Signal, frame_rms
from tests.audio import reference
from tests.inference.fakes import Engine

SECONDS = 12
_GENERATOR = np.random.default_rng(3)


def at_rms(signal: Signal, rms: float) -> Signal:
    """12 s of it at this RMS in 16-bit units, in a quiet room."""
    repeated = np.resize(signal.astype(np.float64), SECONDS * SAMPLE_RATE)
    repeated *= rms / np.sqrt(np.mean(repeated**2))
    return np.asarray((repeated + _GENERATOR.normal(0, 8, len(repeated))) / 32768, np.float32)


def speech(name: str) -> Signal:
    return np.frombuffer(reference(name), "<i2").astype(np.float32)


def warnings(signal: Signal, threshold: float = 300.0) -> list[tuple[int, events.Warning]]:
    """Each warning, and the second after which it came."""
    vad = EnergyVad(threshold)
    pipeline = UtterancePipeline(vad, SegmenterOptions(), Engine().open, StreamOptions(), finds_quiet_voice=True)
    found = []
    for second in range(len(signal) // SAMPLE_RATE):
        pipeline.feed_signal(signal[second * SAMPLE_RATE : (second + 1) * SAMPLE_RATE])
        warning = pipeline.take_warning()
        found += [] if warning is None else [(second + 1, warning)]
    return found


@pytest.mark.parametrize("rms", [30.0, 60.0])
@pytest.mark.parametrize("name", ["weather", "meeting", "price"])
def test_quiet_speech_is_one_warning(name: str, rms: float) -> None:
    """Speech that lies below the threshold for 5 s gives one warning, with its loudness and the threshold."""
    ((second, warning),) = warnings(at_rms(speech(name), rms))

    assert 5 <= second <= 8
    assert warning.code is WarningCode.TOO_QUIET
    assert "only 300 counts as voice" in warning.message


SILENT = {
    "a quiet room": np.ones(1, np.float32),
    "white noise": _GENERATOR.normal(0, 1, SECONDS * SAMPLE_RATE),
    "pink noise": pink(SECONDS * SAMPLE_RATE, 1),
    "hum": np.sin(2 * np.pi * 60 * np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE),
    "a click every second": np.concatenate((np.ones(160), np.zeros(SAMPLE_RATE - 160))),
}


@pytest.mark.parametrize("sound", SILENT.values(), ids=SILENT)
def test_what_is_no_voice_is_no_warning(sound: Signal) -> None:
    """A room, its noise and a few clicks are not taken for a quiet talker."""
    assert warnings(at_rms(sound, 120.0)) == []


def test_speech_over_the_threshold_is_no_warning() -> None:
    """Who is heard is not warned, however long the speech, nor with a lower threshold."""
    assert warnings(at_rms(speech("weather"), 1500.0)) == []
    assert warnings(at_rms(speech("weather"), 60.0), threshold=30.0) == []


@given(st.lists(st.integers(0, SECONDS * 50), max_size=20).map(sorted))
def test_cuts_make_no_difference(cuts: list[int]) -> None:
    """However the frames come, the finding is the same."""
    loudness: list[float] = frame_rms(QUIET).tolist()
    finder = QuietVoiceFinder()
    for first, last in zip([0, *cuts], [*cuts, len(loudness)], strict=True):
        finder.update(loudness[first:last], [False] * (last - first))

    assert finder.loudest == FOUND


QUIET = at_rms(speech("weather"), 60.0)
_whole = QuietVoiceFinder()
_whole.update(frame_rms(QUIET).tolist(), [False] * (len(QUIET) // 320))
FOUND = _whole.loudest
