"""A file's audio in, its segments out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.base import ASRResult, EngineError, StreamOptions
from inference.file_pieces import CollectingStream, Piece, Progress, Segmented, cut, open_collecting
from inference.file_pool import FileEnded
from inference.file_transcription import CancellationToken, Cancelled, DecodedFile, transcribe
from inference.segmenter import SegmenterOptions
from protocol.events import WarningCode
from protocol.file_dialect import FileSegment
from protocol.pcm import Signal, to_signal
from tests.inference.fakes import Engine, FakeStream, draw, pipeline_of

UTTERANCE = "VVVVV" + "." * 25


class Answering(Engine):
    """Decodes at once what has ended, or when the caller waits."""

    def __init__(self, *results: ASRResult, at_once: bool = True) -> None:
        super().__init__()
        self.peak_in_work = 0
        self._results = results
        self._at_once = at_once

    def open(self, options: StreamOptions) -> FakeStream:
        stream = Telling(self)
        self.streams.append(stream)
        return stream

    def ended(self) -> None:
        self.peak_in_work = max(self.peak_in_work, self.in_work)
        if self._at_once:
            self.answer_newest()

    def answer_newest(self) -> None:
        number = max(number for number, stream in enumerate(self.streams) if stream.in_work)
        result = self._results[number] if self._results else ASRResult(str(number), "en", inference_seconds=0.5)
        self.streams[number].result.set_result(result)


class Telling(FakeStream):
    """Tells its engine when it ended."""

    def __init__(self, engine: Answering) -> None:
        super().__init__()
        self._engine = engine

    def finish(self, samples: int) -> Future[ASRResult]:
        future = super().finish(samples)
        self._engine.ended()
        return future


def instead_of_waiting(monkeypatch: pytest.MonkeyPatch, happen: Callable[[], None]) -> None:
    monkeypatch.setattr("inference.file_transcription.wait", lambda *_, **__: happen())


def transcribe_blocks(
    blocks: Iterable[Signal],
    engine: Engine,
    width: int,
    cancellation: CancellationToken,
    options: SegmenterOptions | None = None,
) -> DecodedFile:
    pipelines = (pipeline_of(Cutting(), options or SegmenterOptions()) for _ in range(9))

    def pieces() -> Iterator[Piece | Progress | FileEnded]:
        for each in cut((block[np.newaxis] for block in blocks), pipelines):
            yield FileEnded(each, []) if isinstance(each, Segmented) else each

    return transcribe(pieces(), lambda: engine.open(StreamOptions()), width, cancellation)


class Cutting(Engine):
    """Opens the streams that only collect."""

    def open(self, options: StreamOptions) -> CollectingStream:  # type: ignore[override]
        return open_collecting(options)


def run(engine: Engine, frames: str, width: int = 1, size: int = 4096) -> DecodedFile:
    signal = to_signal(draw(frames))
    blocks = [signal[first : first + size] for first in range(0, len(signal), size)]
    return transcribe_blocks(blocks, engine, width, CancellationToken())


def test_segments() -> None:
    """Every utterance with text is a segment, timed by its voice; the length is that of the whole audio."""
    said = [ASRResult("one", "en", inference_seconds=0.5), ASRResult(""), ASRResult("three", "en", inference_seconds=1)]
    transcript = run(Answering(*said), "." * 10 + UTTERANCE * 2 + "VVV")
    assert transcript.segments == [FileSegment(200, 300, "one"), FileSegment(1400, 1460, "three")]
    assert (transcript.duration_ms, transcript.language, transcript.inference_seconds) == (1460, "en", 1.5)


@pytest.mark.parametrize("frames", ["", "." * 200])
def test_silence(frames: str) -> None:
    """A file without voice is not decoded, and has no segments and no language."""
    engine = Answering()
    transcript = run(engine, frames)
    (warning,) = transcript.warnings
    assert transcript == DecodedFile([], 20 * len(frames), None, 0, [warning])
    assert warning.code is WarningCode.NO_SPEECH
    assert engine.streams == []


@given(st.lists(st.integers(1, 40_000), max_size=10))
def test_any_blocks(sizes: list[int]) -> None:
    """However the audio is cut into blocks, the transcript is the same."""
    frames = "..." + UTTERANCE * 4 + "VVVV"
    signal = to_signal(draw(frames))
    blocks = np.split(signal, sorted({int(end) for end in np.cumsum(sizes) if end < len(signal)}))
    assert run(Answering(), frames) == transcribe_blocks(blocks, Answering(), 1, CancellationToken())


@pytest.mark.parametrize(
    ("languages", "language"),
    [
        (["en", "de", "de"], "de"),
        (["de", "en", "fr", "en", "de"], "de"),
        ([None, None, "fr"], "fr"),
        ([None, None], None),
    ],
)
def test_language(languages: list[str | None], language: str | None) -> None:
    """A file's language is its most frequent one, or the first of those; segments without one do not count."""
    said = [ASRResult("text", language) for language in languages]
    assert run(Answering(*said), UTTERANCE * len(said)).language == language


def test_language_of_nothing() -> None:
    """A language heard where there were no words does not count."""
    assert run(Answering(ASRResult("", "de"), ASRResult("a", "en")), UTTERANCE * 2).language == "en"


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_width(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """`width` pieces are decoded at once, and no more; segments stay in order whichever is done first."""
    engine = Answering(at_once=False)
    instead_of_waiting(monkeypatch, engine.answer_newest)
    transcript = run(engine, UTTERANCE * 8, width)
    assert engine.peak_in_work == width
    assert [segment.text for segment in transcript.segments] == [str(number) for number in range(8)]


def test_abandoned_while_decoding() -> None:
    """Calling it off while pieces are decoded cancels them, and the utterance that is open."""
    engine = Engine()
    cancellation = CancellationToken()

    def blocks() -> Iterator[Signal]:
        yield to_signal(draw(UTTERANCE))
        cancellation.cancel()
        yield to_signal(draw(UTTERANCE))

    with pytest.raises(Cancelled):
        transcribe_blocks(blocks(), engine, 3, cancellation)
    assert [stream.cancelled for stream in engine.streams] == [True]


def test_abandoned_while_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calling it off ends a wait for the engine."""
    engine = Engine()
    cancellation = CancellationToken()
    instead_of_waiting(monkeypatch, cancellation.cancel)
    with pytest.raises(Cancelled):
        transcribe_blocks([to_signal(draw(UTTERANCE))], engine, 1, cancellation)
    assert engine.streams[0].cancelled


def test_engine_closes() -> None:
    """A piece that the engine itself cancelled ends the transcription."""

    class Closing(FakeStream):
        def finish(self, samples: int) -> Future[ASRResult]:
            future = super().finish(samples)
            future.cancel()
            return future

    stream = Closing()
    engine = Engine()
    engine.open = lambda _: stream  # type: ignore[method-assign,assignment] # a test's own engine
    with pytest.raises(Cancelled):
        transcribe_blocks([to_signal(draw(UTTERANCE))], engine, 1, CancellationToken())


def test_engine_error() -> None:
    """A piece that cannot be decoded ends the transcription, and cancels what is being decoded."""

    class Failing(FakeStream):
        def finish(self, samples: int) -> Future[ASRResult]:
            future = super().finish(samples)
            if len(engine.streams) == 1:
                future.set_exception(EngineError("broken"))
            return future

    class FailingEngine(Engine):
        def open(self, options: StreamOptions) -> FakeStream:
            self.streams.append(Failing())
            return self.streams[-1]

    engine = FailingEngine()
    with pytest.raises(EngineError, match="broken"):
        run(engine, UTTERANCE + "V" * 100, width=2)


def test_engine_time_out() -> None:
    """A time-out of the engine's own is its error, not a reason to wait on."""
    engine = Engine(lambda stream: stream.result.set_exception(TimeoutError("engine")))
    with pytest.raises(TimeoutError, match="engine"):
        run(engine, UTTERANCE)


def test_bad_audio() -> None:
    """What the decoder of the audio raises goes through, and cancels what is being decoded."""

    def blocks() -> Iterator[Signal]:
        yield to_signal(draw(UTTERANCE + "VVVV"))
        raise ValueError("truncated")

    engine = Engine()
    with pytest.raises(ValueError, match="truncated"):
        transcribe_blocks(blocks(), engine, 3, CancellationToken())
    assert [stream.cancelled for stream in engine.streams] == [True]


def test_many_utterances_in_a_block() -> None:
    """A block that ends many utterances does not begin more than `width` decodes."""
    engine = Answering()
    signal = to_signal(draw("VVV....." * 50))
    transcript = transcribe_blocks([signal], engine, 1, CancellationToken(), SegmenterOptions(100))
    assert len(transcript.segments) == 50
    assert engine.peak_in_work == 1
