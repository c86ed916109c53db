"""`mock` is a backend like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.base import ASRBackend
from backends.mock import MockBackend, read_recording
from protocol.pcm import Signal
from tests.backends.conformance import BackendConformance, started

REFERENCES = Path(__file__).resolve().parents[2] / "references"


@pytest.fixture(scope="module")
def make_backend() -> Callable[[], ASRBackend]:
    return lambda: MockBackend(REFERENCES)


@pytest.fixture(scope="module")
def backend(make_backend: Callable[[], ASRBackend]) -> Iterator[ASRBackend]:
    yield from started(make_backend())


@pytest.fixture(scope="module")
def speech() -> Signal:
    return read_recording(REFERENCES / "weather.wav")[0]


class TestMock(BackendConformance):
    pass
