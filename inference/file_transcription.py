"""Decodes the pieces of a file to segments, several at once."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field

from backends.base import ASRResult, ASRStream
from inference.file_pieces import Piece, Progress, Segmented
from inference.file_pool import FileEnded
from inference.utterance_pipeline import shifted_words
from protocol import events
from protocol.file_dialect import FileProgress, FileSegment
from protocol.pcm import ms


class Cancelled(Exception):
    """The transcription was cancelled."""


class CancellationToken:
    """Lets another thread cancel a transcription."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.on_cancel: Callable[[], None] | None = None
        """Called by `cancel`, on the same thread: ends a wait."""

    def cancel(self) -> None:
        """Cancel the transcription. Idempotent. From any thread; where `on_cancel` is set, from its event loop."""
        if self.on_cancel is not None and not self._event.is_set():
            self.on_cancel()
        self._event.set()

    def check(self) -> None:
        """Raise `Cancelled` if `cancel` was called."""
        if self._event.is_set():
            raise Cancelled


@dataclass(frozen=True, slots=True)
class DecodedFile:
    """The result of a file."""

    segments: list[FileSegment]
    duration_ms: int
    language: str | None
    """The most frequent language among the segments; None if the engine cannot tell."""
    inference_seconds: float
    warnings: list[events.Warning] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Decoding:
    """A piece that is being decoded."""

    piece: Piece
    stream: ASRStream
    result: Future[ASRResult]


def transcribe(
    pieces: Iterable[Piece | Progress | FileEnded],
    open_stream: Callable[[], ASRStream],
    width: int,
    cancellation: CancellationToken,
    report: Callable[[FileSegment | FileProgress], None] = lambda _: None,
) -> DecodedFile:
    """Decode the pieces of a file, at most `width` at once.

    Blocks the calling thread; memory is bounded by `width` pieces. `report` is called on the calling thread with
    segments that have text, in order, and with the progress.

    Raises:
        Cancelled: `cancellation` was cancelled.
        EngineError: a piece could not be decoded.
        Whatever `pieces` raises.
    """
    work: deque[_Decoding] = deque()
    done: list[tuple[FileSegment, ASRResult]] = []
    ended = FileEnded(Segmented(0, 0.0), [])

    def collect(most: int) -> None:
        _wait_until_at_most(work, most, cancellation)
        while work and work[0].result.done():
            done.append(_collect(work.popleft()))
            if done[-1][0].text:
                report(done[-1][0])

    try:
        for each in pieces:
            cancellation.check()
            if isinstance(each, Piece):
                work.append(_begin(each, open_stream()))
                collect(width - 1)
            elif isinstance(each, Progress):
                report(FileProgress(ms(each.position)))
            else:
                ended = each
        collect(0)
    finally:
        for decoding in work:
            decoding.stream.cancel()
    return _assemble(done, ended)


def _begin(piece: Piece, stream: ASRStream) -> _Decoding:
    stream.push(piece.audio)
    return _Decoding(piece, stream, stream.finish(len(piece.audio)))


def _wait_until_at_most(work: Collection[_Decoding], most: int, cancellation: CancellationToken) -> None:
    """Wait until at most `most` pieces are being decoded."""
    while len(decoding := [each.result for each in work if not each.result.done()]) > most:
        cancellation.check()
        wait(decoding, timeout=0.1, return_when=FIRST_COMPLETED)


def _collect(decoding: _Decoding) -> tuple[FileSegment, ASRResult]:
    """The result of a decoded piece, without its audio and stream."""
    piece = decoding.piece
    try:
        result = decoding.result.result()
    except CancelledError as error:
        raise Cancelled from error
    finally:
        del decoding  # an exception of its result refers to this frame: a reference cycle
    segment = FileSegment(
        start_ms=ms(piece.voiced_start),
        end_ms=ms(piece.voiced_end),
        text=result.text,
        words=shifted_words(result, ms(piece.start)),
        channel=piece.channel,
    )
    return segment, result


def _assemble(done: list[tuple[FileSegment, ASRResult]], ended: FileEnded) -> DecodedFile:
    segments = [segment for segment, _ in done if segment.text]
    segments.sort(key=lambda segment: segment.start_ms)
    languages = Counter(result.language for _, result in done if result.text and result.language)
    return DecodedFile(
        segments=segments,
        duration_ms=ms(ended.segmented.samples),
        language=languages.most_common(1)[0][0] if languages else None,
        inference_seconds=sum(result.inference_seconds for _, result in done),
        warnings=_warnings(ended, spoken=bool(done)),
    )


def _warnings(ended: FileEnded, *, spoken: bool) -> list[events.Warning]:
    found = [events.Warning(each.code, each.message) for each in ended.warnings]
    if not spoken:
        found.append(events.Warning(events.WarningCode.NO_SPEECH, _no_speech(ended.segmented)))
    return found


def _no_speech(segmented: Segmented) -> str:
    loudest = f"no speech was found: the loudest 20 ms have an RMS of {segmented.loudest:.0f} of 32768"
    if segmented.threshold is None:
        return loudest
    return f"{loudest}, and only {segmented.threshold:.0f} counts as voice (the detector's threshold)"
