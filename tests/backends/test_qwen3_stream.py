"""What utterances and their engine do when something fails, on a fake model."""

from __future__ import annotations

import threading

import pytest

from backends.base import EngineError, StreamOptions
from backends.qwen3.backend import Qwen3Backend
from backends.qwen3.options import Qwen3Options
from backends.qwen3.schedule import Purpose
from backends.qwen3.vllm_model import DecodeRequest
from protocol.pcm import SAMPLE_RATE
from tests.backends.conformance import final
from tests.backends.qwen3_fakes import forever, noise, running
from tests.patience import PATIENCE_SECONDS
from tests.server import eventually


def final_text(backend: Qwen3Backend) -> str:
    stream = backend.stream(StreamOptions())
    stream.push(noise(1.0))
    return final(stream, SAMPLE_RATE).text


@pytest.mark.parametrize(("max_num_seqs", "uploads"), [(256, 6), (64, 2), (32, 1)])
def test_partials_go_on_beside_uploads(max_num_seqs: int, uploads: int) -> None:
    """While every upload has its pieces being decoded or waiting, a live utterance is refreshed."""
    with running(Qwen3Options(max_num_seqs=max_num_seqs)) as (backend, model):
        model.decode = lambda request: forever() if request.priority == Purpose.BATCH else None
        for _ in range(uploads * 32):
            piece = backend.stream(StreamOptions(live=False))
            piece.push(noise(1.0))
            piece.finish(16_000)
        eventually(lambda: model.count(Purpose.BATCH) == min(32, max_num_seqs // 4))
        live = backend.stream(StreamOptions())
        live.push(noise(2.0))
        eventually(lambda: live.partial() is not None)


@pytest.mark.parametrize("live", [True, False])
def test_a_final_that_cannot_be_parsed_fails(live: bool) -> None:
    """An exception behind a final's answer fails that final, and the engine serves the next one."""
    with running() as (backend, model):
        stream = backend.stream(StreamOptions(live=live))
        stream.push(noise(1.0))
        stream.pause()
        eventually(lambda: backend.stats().in_flight == 0)
        model.tokenizer.error = OverflowError("out of range")
        with pytest.raises(EngineError, match="out of range"):
            final(stream, SAMPLE_RATE)
        model.tokenizer.error = None
        assert final_text(backend) == "hello"


def test_a_callback_that_fails_costs_one_utterance() -> None:
    """An exception in `notify` leaves the engine healthy, and the utterance gets its final."""

    def fail() -> None:
        raise RuntimeError("a bug")

    with running() as (backend, model):
        stream = backend.stream(StreamOptions(notify=fail))
        stream.push(noise(2.0))
        eventually(lambda: model.count(Purpose.REFRESH) and backend.stats().in_flight == 0)
        assert final(stream, 2 * SAMPLE_RATE).text == "hello"
        assert backend.healthy()


def test_a_failing_observer_keeps_no_final_back() -> None:
    """An exception in `on_completed` neither keeps a final back nor ends the engine."""

    def fail(_: object) -> None:
        raise RuntimeError("a bug")

    with running(on_completed=fail) as (backend, _):
        assert final_text(backend) == "hello"
        assert backend.healthy()


def test_a_request_that_cannot_be_rendered_fails() -> None:
    """An exception while a final is rendered fails that final, and the engine serves the next one."""
    with running() as (backend, model):
        model.render_error = ValueError("too long")
        with pytest.raises(EngineError, match="too long"):
            final_text(backend)
        model.render_error = None
        assert final_text(backend) == "hello"


def test_a_failed_refresh_costs_one_partial() -> None:
    """After a refresh that fails, the utterance has later partials and its final."""

    def fail(request: DecodeRequest) -> None:
        if request.priority == Purpose.REFRESH and model.count(Purpose.REFRESH) == 1:
            raise ValueError("too long")

    with running() as (backend, model):
        model.decode = fail
        stream = backend.stream(StreamOptions())
        stream.push(noise(2.0))
        eventually(lambda: model.count(Purpose.REFRESH) == 1 and backend.stats().in_flight == 0)
        assert stream.partial() is None
        stream.push(noise(2.0))
        eventually(lambda: stream.partial() is not None)
        assert final(stream, 4 * SAMPLE_RATE).text == "hello"


def test_a_refresh_that_cannot_be_parsed_costs_one_partial() -> None:
    """An exception behind a refresh's answer leaves the utterance its later partials and its final."""
    with running() as (backend, model):
        model.tokenizer.error = OverflowError("out of range")
        stream = backend.stream(StreamOptions())
        stream.push(noise(2.0))
        eventually(lambda: model.tokenizer.failures)
        assert stream.partial() is None
        model.tokenizer.error = None
        stream.push(noise(2.0))
        eventually(lambda: stream.partial() is not None)
        assert final(stream, 4 * SAMPLE_RATE).text == "hello"


def test_a_callback_that_fails_behind_a_failed_render_leaves_the_engine() -> None:
    """An exception in `notify`, called because a final could not be rendered, does not end the engine."""
    called = threading.Event()

    def fail() -> None:
        called.set()
        raise RuntimeError("a bug")

    with running() as (backend, model):
        model.render_error = ValueError("too long")
        stream = backend.stream(StreamOptions(notify=fail))
        stream.push(noise(0.9))
        stream.pause()
        assert called.wait(PATIENCE_SECONDS)
        model.render_error = None
        assert final_text(backend) == "hello"
        assert backend.healthy()
