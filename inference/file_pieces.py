"""Cuts a file's decoded audio into utterances, with the detector and segmenter of live audio."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from backends.base import ASRResult, StreamOptions
from inference.utterance_pipeline import UtteranceEnded, UtterancePipeline
from protocol.events import Reason
from protocol.pcm import SAMPLE_RATE, Signal, frame_rms, samples_of

_BLOCK = samples_of(100)
_PROGRESS_SAMPLES = 10 * SAMPLE_RATE
_NOTHING = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class Piece:
    """One utterance of a file; positions are samples of the file at 16 kHz."""

    channel: int | None
    """Its channel, from 0; None: the file is transcribed as one."""
    start: int
    """First sample of its audio."""
    voiced_start: int
    voiced_end: int
    audio: Signal
    """float32 [n] in [-1, 1]."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The file was decoded up to this sample."""

    position: int


@dataclass(frozen=True, slots=True)
class Segmented:
    """The file has ended."""

    samples: int
    """Its length at 16 kHz."""
    loudest: float
    """RMS of its loudest 20 ms frame, in 16-bit units."""
    threshold: float | None = None
    """RMS in 16-bit units from which a frame was voiced at the end; None: loudness does not decide."""


class CollectingStream:
    """An engine's stream that only keeps the audio of its utterance."""

    def __init__(self) -> None:
        self._pushed: list[Signal] = []
        self.audio = _NOTHING
        """The audio of the utterance, once finished; float32 [n]."""

    def push(self, samples: Signal) -> None:
        """Keep the samples."""
        self._pushed.append(samples)

    def partial(self) -> None:
        """None: nothing is recognised here."""

    def pause(self) -> None:
        """Does nothing."""

    def finish(self, samples: int) -> Future[ASRResult]:
        """Keep the first `samples`. The future is never resolved."""
        self.audio = np.concatenate((_NOTHING, *self._pushed))[:samples]
        self._pushed.clear()
        return Future()

    def cancel(self) -> None:
        """Does nothing."""


def open_collecting(options: StreamOptions) -> CollectingStream:  # noqa: ARG001 - the seam's signature
    """As `ASRBackend.stream`."""
    return CollectingStream()


def cut(blocks: Iterable[Signal], pipelines: Iterator[UtterancePipeline]) -> Iterator[Piece | Progress | Segmented]:
    """Cut `blocks`, float32 [channels, n] at 16 kHz, into pieces.

    `pipelines` gives one for each channel; each opens `CollectingStream`s.
    Pieces of one channel come in order. `Progress` comes every 10 s of audio, `Segmented` last.
    """
    channels: list[UtterancePipeline] = []
    reported, loudest = 0, 0.0
    for block in blocks:
        while len(channels) < len(block):
            channels.append(next(pipelines))
        # A short last block counts by its own samples.
        levels = frame_rms(block.ravel())
        loudest = max(loudest, float(levels.max(initial=0)))
        for channel, pipeline in enumerate(channels):
            yield from _feed(_piece_channel(channel, channels), pipeline, block[channel])
        if channels[0].position - reported >= _PROGRESS_SAMPLES:
            reported = channels[0].position
            yield Progress(reported)
    for channel, pipeline in enumerate(channels):
        yield from _pieces(_piece_channel(channel, channels), pipeline.end(Reason.ENDPOINT))
    thresholds = [each.vad_threshold for each in channels if each.vad_threshold is not None]
    threshold = min(thresholds, default=None)
    yield Segmented(channels[0].position if channels else 0, loudest, threshold)


def _piece_channel(channel: int, channels: Sized) -> int | None:
    return channel if len(channels) > 1 else None


def _feed(channel: int | None, pipeline: UtterancePipeline, signal: Signal) -> Iterator[Piece]:
    for first in range(0, len(signal), _BLOCK):
        yield from _pieces(channel, pipeline.feed_signal(signal[first : first + _BLOCK]))
        while pipeline.has_backlog:
            yield from _pieces(channel, pipeline.feed_signal(_NOTHING))


def _pieces(channel: int | None, events: Iterable[object]) -> Iterator[Piece]:
    for event in events:
        if isinstance(event, UtteranceEnded) and isinstance(event.stream, CollectingStream):
            yield Piece(channel, event.start, event.voiced_start, event.voiced_end, event.stream.audio)
