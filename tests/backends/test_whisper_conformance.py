"""What the server believes of every backend, on a real Whisper model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from backends.base import ASRBackend
from backends.whisper.backend import WhisperBackend
from backends.whisper.options import WhisperOptions
from protocol.pcm import Signal
from tests.audio import signal_of
from tests.backends.conformance import BackendConformance, started
from tests.weights import weights


@pytest.fixture(scope="module")
def make_backend() -> Callable[[], ASRBackend]:
    return lambda: WhisperBackend(WhisperOptions(weights("tiny.en")))


@pytest.fixture(scope="module")
def backend(make_backend: Callable[[], ASRBackend]) -> Iterator[ASRBackend]:
    yield from started(make_backend())


@pytest.fixture(scope="module")
def speech() -> Signal:
    return signal_of("weather")


class TestWhisper(BackendConformance):
    pass
