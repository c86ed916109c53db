"""The engine's metrics for Prometheus. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from backends.qwen3.schedule import Purpose
from backends.qwen3.stats import DecodeTotals, EngineStats
from observability.engine_metrics import EngineMetric
from protocol.pcm import SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class EngineState:
    """The engine now."""

    in_flight: dict[Purpose, int]
    """Decodes queued, rendered or decoded."""
    queued: int
    """Decodes that wait to be rendered, or for a slot."""
    spacing: int | None
    """Least number of new samples between two refreshes of an utterance; None: no refresh may start."""
    restarts: int


def engine_metrics(stats: EngineStats, state: EngineState) -> Iterator[EngineMetric]:
    """All values of `GET /metrics`."""
    spacing = math.inf if state.spacing is None else state.spacing / SAMPLE_RATE
    yield EngineMetric("restarts", "counter", "Restarts of the engine after it failed.", state.restarts)
    yield EngineMetric("decodes_queued", "gauge", "Decodes that wait to be rendered or for a slot.", state.queued)
    yield EngineMetric(
        "refresh_spacing_seconds", "gauge", "Least speech between two refreshes now; +Inf: none may start.", spacing
    )
    yield EngineMetric("decodes_aborted", "counter", "Decodes that were aborted.", stats.aborted)
    yield EngineMetric("decodes_failed", "counter", "Decodes that failed.", stats.failed)
    totals = {Purpose.FINAL: stats.finals, Purpose.REFRESH: stats.refreshes, Purpose.BATCH: stats.batch}
    for purpose, total in totals.items():
        labels = {"purpose": purpose.name.lower()}
        in_flight = state.in_flight[purpose]
        yield EngineMetric("decodes_in_flight", "gauge", "Decodes queued, rendered or decoded.", in_flight, labels)
        yield EngineMetric("decodes", "counter", "Decodes started.", total.decodes, labels)
        yield from _work(total, labels)


def _work(total: DecodeTotals, labels: dict[str, str]) -> Iterator[EngineMetric]:
    parts = {
        "waiting": total.waiting_seconds,
        "rendering": total.rendering_seconds,
        "decoding": total.decoding_seconds,
    }
    for part, seconds in parts.items():
        description = "Time of completed decodes in each part."
        yield EngineMetric("decode_seconds", "counter", description, seconds, labels | {"part": part})
    tokens = {"cache": total.cached_tokens, "computed": total.prompt_tokens - total.cached_tokens}
    for source, count in tokens.items():
        description = "Tokens of prompts, from the KV cache or computed."
        yield EngineMetric("prompt_tokens", "counter", description, count, labels | {"source": source})
    yield EngineMetric("text_tokens", "counter", "Tokens generated.", total.text_tokens, labels)
    yield EngineMetric("audio_encoded_seconds", "counter", "Audio encoded.", total.audio_seconds, labels)
