"""Metrics that an engine itself reports, beside the server's own. A backend without `metrics` has none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_PREFIX = "stt_engine_"


@dataclass(frozen=True, slots=True)
class EngineMetric:
    """One value. Values of one name have the same kind, description and names of labels."""

    name: str
    """Name with base units, without the prefix `stt_engine_` and the suffix `_total`."""
    kind: Literal["counter", "gauge"]
    description: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    """Label names -> values. Each label must have few different values."""


@runtime_checkable
class ReportsMetrics(Protocol):
    """A backend with metrics of its own."""

    def metrics(self) -> Iterable[EngineMetric]:
        """All current values. Called at each scrape, on any thread; must not block."""
        ...


class EngineCollector(Collector):
    """Reads an engine's metrics at each scrape."""

    def __init__(self, read: Callable[[], Iterable[EngineMetric]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for metric in self._read():
            if metric.name not in families:
                kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                families[metric.name] = kind(_PREFIX + metric.name, metric.description, labels=list(metric.labels))
            families[metric.name].add_metric(list(metric.labels.values()), metric.value)
        yield from families.values()


def register_engine(registry: CollectorRegistry, backend: object) -> None:
    """Let `registry` report the metrics of `backend`, if it has any."""
    if isinstance(backend, ReportsMetrics):
        registry.register(EngineCollector(backend.metrics))
