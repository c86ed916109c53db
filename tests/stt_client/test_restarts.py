"""A stream lives through restarts of a real server."""

from __future__ import annotations

import asyncio
import signal
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.audio import text_of
from tests.stt_client.restarted_server import RECORDINGS, RestartedServer, check, converse, words


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ten_restarts_in_mid_sentence_cost_no_word(folder: Path, number: signal.Signals) -> None:
    """Each sentence in which the server restarts has one final, whole, with the number and times of the stream."""
    with RestartedServer(folder, {"STT_BACKEND": "mock"}) as server:
        events = asyncio.run(converse(server, 10, number))

    check(events, 10, [words(text_of(name)) for name in islice(cycle(RECORDINGS), 10)])
