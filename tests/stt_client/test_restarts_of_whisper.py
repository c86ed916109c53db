"""A stream lives through restarts of a real server with real recognition."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.stt_client.restarted_server import RestartedServer, check, converse, texts
from tests.weights import settings_of


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(
    "restarts", [pytest.param(2, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.soak)]
)
def test_restarts_cost_no_word_of_whisper(folder: Path, number: signal.Signals, restarts: int) -> None:
    """With real recognition too, each sentence has the words that it has without restarts."""
    with RestartedServer(folder, settings_of("tiny.en")) as server:
        undisturbed = asyncio.run(converse(server, restarts, None))
        events = asyncio.run(converse(server, restarts, number))

    check(events, restarts, texts(undisturbed))
