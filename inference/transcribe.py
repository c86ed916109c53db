"""A file's audio in, its segments out: the same ears as live, decoded several pieces at a time."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from dataclasses import dataclass

import numpy as np

from backends.base import ASRResult
from inference.listener import Ended, Heard, Listener
from protocol.pcm import Signal, ms, samples_of
from protocol.schema import Reason, Segment

_BLOCK = samples_of(100)
"""Audio is heard in blocks of 100 ms, so that calling it off is noticed soon."""
_NOTHING = np.zeros(0, np.float32)


class Abandoned(Exception):
    """The caller no longer wants the transcript."""


class Cancellation:
    """Lets another thread call a transcription off."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Call it off; any thread, idempotent."""
        self._event.set()

    def check(self) -> None:
        """Raise `Abandoned` if it was called off."""
        if self._event.is_set():
            raise Abandoned


@dataclass(frozen=True, slots=True)
class FileTranscript:
    """What a file says."""

    segments: list[Segment]
    duration_ms: int
    language: str | None
    """The most frequent language among the segments; None if the engine cannot tell."""
    inference_seconds: float


def transcribe(blocks: Iterable[Signal], listener: Listener, width: int, cancellation: Cancellation) -> FileTranscript:
    """Cut `blocks` (float32 16 kHz mono, shapes [n]) at silences and decode at most `width` pieces at once.

    Blocks the calling thread; memory is bounded by `width` utterances and one block.

    Raises:
        Abandoned: it was called off.
        EngineError: a piece could not be decoded.
        Whatever `blocks` raises.
    """
    pieces: deque[Ended] = deque()
    done: list[tuple[Segment, ASRResult]] = []
    try:
        for heard in _listen(blocks, listener):
            cancellation.check()
            pieces.extend(event for event in heard if isinstance(event, Ended))
            _settle(pieces, width - 1, cancellation)
            while pieces and pieces[0].result.done():
                done.append(_collect(pieces.popleft()))
        _settle(pieces, 0, cancellation)
        done.extend(_collect(piece) for piece in pieces)
    finally:
        listener.cancel()
        for piece in pieces:
            piece.stream.cancel()
    return _assemble(done, listener.position)


def _listen(blocks: Iterable[Signal], listener: Listener) -> Iterator[list[Heard]]:
    for block in blocks:
        for first in range(0, len(block), _BLOCK):
            yield listener.hear_signal(block[first : first + _BLOCK])
            while listener.behind:
                yield listener.hear_signal(_NOTHING)
    yield listener.end(Reason.ENDPOINT)


def _settle(pieces: Collection[Ended], most: int, cancellation: Cancellation) -> None:
    """Wait until at most `most` of the pieces are in work."""
    while len(in_work := [piece.result for piece in pieces if not piece.result.done()]) > most:
        cancellation.check()
        wait(in_work, timeout=0.1, return_when=FIRST_COMPLETED)


def _collect(piece: Ended) -> tuple[Segment, ASRResult]:
    """What is kept of a decoded piece: not its stream, which may hold its audio."""
    try:
        result = piece.result.result()
    except CancelledError as error:
        raise Abandoned from error
    return Segment(start_ms=ms(piece.voiced_start), end_ms=ms(piece.voiced_end), text=result.text), result


def _assemble(done: list[tuple[Segment, ASRResult]], samples: int) -> FileTranscript:
    segments = [segment for segment, _ in done if segment.text]
    languages = Counter(result.language for _, result in done if result.text and result.language)
    return FileTranscript(
        segments=segments,
        duration_ms=ms(samples),
        language=languages.most_common(1)[0][0] if languages else None,
        inference_seconds=sum(result.inference_seconds for _, result in done),
    )
