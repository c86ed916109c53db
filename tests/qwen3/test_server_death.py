"""Ends: of an engine that is killed, of a server that is, and of one that is stopped.

After test_server.py, whose server it ends, and in this order: an engine takes a minute to start.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from protocol.pcm import SAMPLE_RATE, to_pcm
from tests.client import session
from tests.qwen3.conftest import launch, spoken, warm
from tests.qwen3.processes import core_of, engine_of, gone
from tests.qwen3.speakers import CHUNK, said, text, utterance
from tests.server import Server, eventually


@pytest.fixture(scope="module")
def before(server: Server) -> str:
    """What the first engine heard."""
    return text(said(server, utterance(1), live=False))


@pytest.fixture(scope="module")
def doomed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, which still loads."""
    with launch(tmp_path_factory.mktemp("qwen3-doomed")) as running:
        yield running


def test_an_engine_killed_in_mid_speech(server: Server, before: str) -> None:
    """Everyone gets 1011, also one who says nothing, and /health says 503; at once."""
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


def test_a_killed_engine_is_built_anew(server: Server, before: str, doomed: Server) -> None:
    """The new engine hears as the old one did. (The next test's server is asked for to load meanwhile.)"""
    warm(server)
    assert text(said(server, utterance(1), live=False)) == before != ""


def test_a_killed_server(doomed: Server) -> None:
    """SIGKILL leaves no process of the engine behind."""
    warm(doomed)
    engine = engine_of(doomed.process.pid)
    assert engine
    doomed.signal(signal.SIGKILL)
    doomed.process.wait(5)
    eventually(lambda: gone(engine), 5)


def test_a_stop_without_sessions(server: Server) -> None:
    """Takes less than ten seconds, and leaves no process; this engine is the one that was rebuilt."""
    engine = engine_of(server.process.pid)
    assert engine
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    server.process.wait(15)
    assert time.monotonic() - began < 10
    eventually(lambda: gone(engine))
