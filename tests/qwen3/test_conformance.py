"""What the server believes of every backend, on the real engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backends.base import ASRBackend
from backends.qwen3.backend import Qwen3Backend
from protocol.pcm import Signal
from tests.backends.conformance import BackendConformance
from tests.qwen3.conftest import OPTIONS, spoken


@pytest.fixture(scope="module")
def make_backend() -> Callable[[], ASRBackend]:
    return lambda: Qwen3Backend(OPTIONS)


@pytest.fixture(scope="module")
def backend(shared: Qwen3Backend) -> ASRBackend:
    return shared


@pytest.fixture(scope="module")
def speech() -> Signal:
    return spoken(4.0, 1)


class TestQwen3(BackendConformance):
    pass
