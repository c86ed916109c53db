"""An engine that is killed, and a server that is."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from protocol.pcm import SAMPLE_RATE, to_pcm
from tests.client import session
from tests.qwen3.conftest import spoken
from tests.qwen3.processes import core_of, engine_of, gone
from tests.qwen3.test_server import CHUNK, SETTINGS, said, text, utterance, warm
from tests.server import Server, eventually


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("qwen3-death"), SETTINGS, wait=False) as running:
        warm(running)
        yield running


def test_an_engine_killed_in_mid_speech(server: Server) -> None:
    """Everyone gets 1011 and /health 503, at once; a new engine is built, and hears as the old one did.

    Everyone: the speaker, and one who says nothing.
    """
    before = text(said(server, utterance(1), live=False))
    engine = engine_of(server.process.pid)
    with session(server.ws()) as silent, session(server.ws()) as client:
        client.speak(to_pcm(spoken(6.0, 2))[: 3 * 2 * SAMPLE_RATE], CHUNK)
        os.kill(core_of(server.process.pid), signal.SIGKILL)
        killed = time.monotonic()
        endings = [client.rest(), silent.rest()]
        assert time.monotonic() - killed < 2
        assert server.answers() == 503
    for messages, code in endings:
        assert messages[-1]["code"] == code == 1011
    eventually(lambda: gone(engine), 10)

    warm(server)
    assert text(said(server, utterance(1), live=False)) == before != ""


def test_a_killed_server(server: Server) -> None:
    """SIGKILL leaves no process of the engine behind; this engine is the one that was rebuilt."""
    engine = engine_of(server.process.pid)
    assert engine
    server.signal(signal.SIGKILL)
    server.process.wait(5)
    eventually(lambda: gone(engine), 5)
