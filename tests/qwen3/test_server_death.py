"""Killed engines, killed servers and stopped servers.

These tests run after test_server.py, whose server they end, and in this order: an engine takes a minute to start.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from protocol.pcm import SAMPLE_RATE, to_pcm
from tests.client import session
from tests.patience import PATIENCE_SECONDS
from tests.qwen3.client_sessions import CHUNK, finals_of, joined_text, utterance
from tests.qwen3.conftest import launch, make_speech, wait_until_ready
from tests.qwen3.processes import core_of, engine_of, gone
from tests.server import Server, eventually


@pytest.fixture(scope="module")
def before(server: Server) -> str:
    """A transcript by the first engine."""
    return joined_text(finals_of(server, utterance(1), live=False))


@pytest.fixture(scope="module")
def doomed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Another server, to be killed."""
    with launch(tmp_path_factory.mktemp("qwen3-doomed")) as running:
        yield running


def test_an_engine_killed_in_mid_speech(server: Server, before: str) -> None:
    """Every session gets 1011, also a silent one, and /health answers 503."""
    engine = engine_of(server.process.pid)
    with session(server.ws()) as silent, session(server.ws()) as client:
        client.speak(to_pcm(make_speech(6.0, 2))[: 3 * 2 * SAMPLE_RATE], CHUNK)
        os.kill(core_of(server.process.pid), signal.SIGKILL)
        endings = [client.rest(), silent.rest()]
        assert server.answers() == 503
    for messages, code in endings:
        assert messages[-1]["code"] == code == 1011
    eventually(lambda: gone(engine))


def test_a_killed_engine_is_restarted(server: Server, before: str) -> None:
    """The new engine gives the transcript of the old one."""
    wait_until_ready(server)
    assert joined_text(finals_of(server, utterance(1), live=False)) == before != ""


def test_a_killed_server(doomed: Server) -> None:
    """SIGKILL of the server ends all processes of its engine."""
    engine = engine_of(doomed.process.pid)
    assert engine
    doomed.signal(signal.SIGKILL)
    doomed.process.wait(PATIENCE_SECONDS)
    eventually(lambda: gone(engine))


def test_a_stop_without_sessions(server: Server) -> None:
    """A stop leaves no process."""
    engine = engine_of(server.process.pid)
    assert engine
    server.signal(signal.SIGTERM)
    server.ended()
    eventually(lambda: gone(engine))
