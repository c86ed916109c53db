"""The conformance suite of all backends, on the real engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backends.base import ASRBackend
from backends.qwen3.backend import Qwen3Backend
from protocol.pcm import Signal
from tests.backends.conformance import BackendConformance, eventually
from tests.processes import runs
from tests.qwen3.conftest import OPTIONS, make_speech


@pytest.fixture(scope="module")
def make_backend() -> Callable[[], ASRBackend]:
    return lambda: Qwen3Backend(OPTIONS)


@pytest.fixture(scope="module")
def backend(shared: Qwen3Backend) -> ASRBackend:
    return shared


@pytest.fixture(scope="module")
def speech() -> Signal:
    return make_speech(4.0, 1)


class TestQwen3(BackendConformance):
    @staticmethod
    def have_ended(processes: set[int]) -> None:
        # Children of vLLM's worker end by themselves a moment after it: on a busy machine, after `close`.
        eventually(lambda: not any(map(runs, processes)) or None, "an end of the engine's processes")
