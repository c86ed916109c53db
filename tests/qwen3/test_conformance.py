"""What the server believes of every backend, on the real engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backends.base import ASRBackend
from backends.qwen3.backend import Qwen3Backend
from protocol.pcm import Signal
from tests.backends.conformance import BackendConformance, eventually
from tests.processes import runs
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
    @staticmethod
    def have_ended(processes: set[int]) -> None:
        # What vLLM's worker started ends by itself a moment after it: on a busy machine, later than `close`.
        eventually(lambda: not any(map(runs, processes)) or None, "an end of the engine's processes")
