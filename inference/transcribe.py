"""A file's audio in, its segments out: segmented as live audio is, several utterances decoded at once."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from dataclasses import dataclass

import numpy as np

from backends.base import ASRResult
from inference.utterance_pipeline import UtteranceEnded, UtteranceEvent, UtterancePipeline, shifted_words
from protocol.events import Reason
from protocol.http_messages import Segment
from protocol.pcm import Signal, ms, samples_of
from protocol.timed_word import timed_words

_BLOCK = samples_of(100)
"""Audio is processed in blocks of 100 ms, so that a cancellation is noticed soon."""
_NOTHING = np.zeros(0, np.float32)


class Cancelled(Exception):
    """The transcription was cancelled."""


class CancellationToken:
    """Lets another thread cancel a transcription."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Cancel the transcription; any thread, idempotent."""
        self._event.set()

    def check(self) -> None:
        """Raise `Cancelled` if the transcription was cancelled."""
        if self._event.is_set():
            raise Cancelled


@dataclass(frozen=True, slots=True)
class FileTranscript:
    """What a file says."""

    segments: list[Segment]
    duration_ms: int
    language: str | None
    """The most frequent language among the segments; None if the engine cannot tell."""
    inference_seconds: float


def transcribe(
    blocks: Iterable[Signal], pipeline: UtterancePipeline, width: int, cancellation: CancellationToken
) -> FileTranscript:
    """Cut `blocks` (float32 16 kHz mono, shapes [n]) at silences and decode at most `width` pieces at once.

    Blocks the calling thread; memory is bounded by `width` utterances and one block.

    Raises:
        Cancelled: by `cancellation`.
        EngineError: a piece could not be decoded.
        Whatever `blocks` raises.
    """
    pieces: deque[UtteranceEnded] = deque()
    done: list[tuple[Segment, ASRResult]] = []
    try:
        for happened in _segment(blocks, pipeline):
            cancellation.check()
            pieces.extend(event for event in happened if isinstance(event, UtteranceEnded))
            _wait_until_at_most(pieces, width - 1, cancellation)
            while pieces and pieces[0].result.done():
                done.append(_collect(pieces.popleft()))
        _wait_until_at_most(pieces, 0, cancellation)
        done.extend(_collect(piece) for piece in pieces)
    finally:
        pipeline.cancel()
        for piece in pieces:
            piece.stream.cancel()
    return _assemble(done, pipeline.position)


def _segment(blocks: Iterable[Signal], pipeline: UtterancePipeline) -> Iterator[list[UtteranceEvent]]:
    for block in blocks:
        for first in range(0, len(block), _BLOCK):
            yield pipeline.feed_signal(block[first : first + _BLOCK])
            while pipeline.has_backlog:
                yield pipeline.feed_signal(_NOTHING)
    yield pipeline.end(Reason.ENDPOINT)


def _wait_until_at_most(pieces: Collection[UtteranceEnded], most: int, cancellation: CancellationToken) -> None:
    """Wait until at most `most` of the pieces are in work."""
    while len(in_work := [piece.result for piece in pieces if not piece.result.done()]) > most:
        cancellation.check()
        wait(in_work, timeout=0.1, return_when=FIRST_COMPLETED)


def _collect(piece: UtteranceEnded) -> tuple[Segment, ASRResult]:
    """What is kept of a decoded piece: not its stream, which may hold its audio."""
    try:
        result = piece.result.result()
    except CancelledError as error:
        raise Cancelled from error
    segment = Segment(
        start_ms=ms(piece.voiced_start),
        end_ms=ms(piece.voiced_end),
        text=result.text,
        words=timed_words(shifted_words(result, ms(piece.start))),
    )
    return segment, result


def _assemble(done: list[tuple[Segment, ASRResult]], samples: int) -> FileTranscript:
    segments = [segment for segment, _ in done if segment.text]
    languages = Counter(result.language for _, result in done if result.text and result.language)
    return FileTranscript(
        segments=segments,
        duration_ms=ms(samples),
        language=languages.most_common(1)[0][0] if languages else None,
        inference_seconds=sum(result.inference_seconds for _, result in done),
    )
