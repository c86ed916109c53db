"""A file's audio in, its segments out: the same ears as live, decoded several pieces at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass

from backends.base import ASRResult
from inference.listener import Ended, Heard, Listener
from protocol.pcm import Signal, ms, samples_of
from protocol.schema import Reason, Segment

_BLOCK = samples_of(100)
"""Audio is heard in blocks of 100 ms, each of which ends at most one utterance: that bounds the pieces in work."""


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
    done: list[tuple[Ended, ASRResult]] = []
    try:
        for heard in _listen(blocks, listener):
            cancellation.check()
            pieces.extend(event for event in heard if isinstance(event, Ended))
            while len(pieces) > width:
                done.append(_collect(pieces, cancellation))
        while pieces:
            done.append(_collect(pieces, cancellation))
    finally:
        listener.cancel()
        for piece in pieces:
            piece.stream.cancel()
    return _assemble(done, listener.position)


def _listen(blocks: Iterable[Signal], listener: Listener) -> Iterator[list[Heard]]:
    for block in blocks:
        for first in range(0, len(block), _BLOCK):
            yield listener.hear_signal(block[first : first + _BLOCK])
    yield listener.end(Reason.ENDPOINT)


def _collect(pieces: deque[Ended], cancellation: Cancellation) -> tuple[Ended, ASRResult]:
    """Wait for the oldest piece; it leaves `pieces` only when decoded, so that an abandoned one is cancelled."""
    piece = pieces[0]
    while True:
        cancellation.check()
        try:
            result = piece.result.result(timeout=0.1)
        except TimeoutError:
            if piece.result.done():  # the engine's own time-out
                raise
            continue
        except CancelledError as error:
            raise Abandoned from error
        pieces.popleft()
        return piece, result


def _assemble(done: list[tuple[Ended, ASRResult]], samples: int) -> FileTranscript:
    segments = [
        Segment(start_ms=ms(piece.voiced_start), end_ms=ms(piece.voiced_end), text=result.text)
        for piece, result in done
        if result.text
    ]
    languages = [result.language for _, result in done if result.text and result.language]
    return FileTranscript(
        segments=segments,
        duration_ms=ms(samples),
        language=max(set(languages), key=languages.count) if languages else None,
        inference_seconds=sum(result.inference_seconds for _, result in done),
    )
