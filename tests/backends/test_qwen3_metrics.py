"""What the qwen3 engine reports to Prometheus."""

from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry

from backends.base import EngineError, StreamOptions
from backends.qwen3.options import Qwen3Options
from backends.qwen3.schedule import Purpose
from observability.engine_metrics import register_engine
from protocol.pcm import SAMPLE_RATE
from tests.backends.conformance import final
from tests.backends.qwen3_fakes import forever, noise, running
from tests.server import ROOT, eventually


def test_the_load_is_reported() -> None:
    """Queue, decodes in flight and spacing are what they are at the scrape."""
    with running(Qwen3Options(max_num_seqs=4)) as (backend, model):
        registry = CollectorRegistry()
        register_engine(registry, backend)
        value = registry.get_sample_value
        assert value("stt_engine_refresh_spacing_seconds") == 0.5
        model.decode = lambda _: forever()
        for _ in range(3):
            stream = backend.stream(StreamOptions())
            stream.push(noise(1.0))
            stream.finish(SAMPLE_RATE)
        for _ in range(2):
            piece = backend.stream(StreamOptions(live=False))
            piece.push(noise(1.0))
            piece.finish(SAMPLE_RATE)
        eventually(lambda: model.count(Purpose.FINAL) == 3 and model.count(Purpose.BATCH) == 1)
        assert value("stt_engine_decodes_in_flight", {"purpose": "final"}) == 3
        assert value("stt_engine_decodes_in_flight", {"purpose": "batch"}) == 2
        eventually(lambda: value("stt_engine_decodes_queued") == 1)
        assert value("stt_engine_refresh_spacing_seconds") == float("inf")


def test_work_is_reported() -> None:
    """Decodes, tokens, cache hits and failures are counted."""
    with running() as (backend, model):
        registry = CollectorRegistry()
        register_engine(registry, backend)
        value = registry.get_sample_value
        stream = backend.stream(StreamOptions())
        stream.push(noise(1.0))
        final(stream, SAMPLE_RATE)
        assert value("stt_engine_decodes_total", {"purpose": "final"}) == 1
        assert value("stt_engine_prompt_tokens_total", {"purpose": "final", "source": "computed"}) == 10
        assert value("stt_engine_prompt_tokens_total", {"purpose": "final", "source": "cache"}) == 0
        assert value("stt_engine_text_tokens_total", {"purpose": "final"}) == 5
        assert value("stt_engine_restarts_total") == 0
        assert value("stt_engine_decode_seconds_total", {"purpose": "final", "part": "decoding"}) is not None
        model.render_error = ValueError("too long")
        stream = backend.stream(StreamOptions(live=False))
        stream.push(noise(1.0))
        with pytest.raises(EngineError):
            final(stream, SAMPLE_RATE)
        assert value("stt_engine_decodes_failed_total") == 1


def test_the_documented_metrics_are_those_there_are() -> None:
    """The table in docs/qwen3.md has each metric of the engine, and no other."""
    page = (ROOT / "docs" / "qwen3.md").read_text()
    documented = set(re.findall(r"^\| `(stt_engine_[a-z_]+)`", page, re.MULTILINE))
    with running() as (backend, _):
        registry = CollectorRegistry()
        register_engine(registry, backend)
        reported = {f"{each.name}_total" if each.type == "counter" else each.name for each in registry.collect()}
    assert documented == reported
