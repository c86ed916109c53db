"""What an engine adds to the metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from backends.mock import MockBackend
from observability.engine_metrics import register_engine
from tests.server import ROOT


def test_other_engines_report_nothing() -> None:
    """A backend without metrics adds none."""
    registry = CollectorRegistry()
    register_engine(registry, MockBackend(ROOT / "references"))
    assert list(registry.collect()) == []
