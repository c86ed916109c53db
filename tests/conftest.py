"""What every test may use: real servers, real sockets, references/, and shared speech where it is."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.server import Server

pytest.register_assert_rewrite("tests.backends.conformance", "tests.stt_client.restarted_server")

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    """Let the programs that tests start hear Ctrl-C: a shell ignores it in what it runs in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def mock_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the mock backend and no settings of its own, as `uvicorn app:app` runs it."""
    with Server(tmp_path_factory.mktemp("mock-server"), {"STT_BACKEND": "mock"}) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a test's own servers keep their logs."""
    return tmp_path
