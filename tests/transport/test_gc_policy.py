"""Full garbage collections come when connections have closed, and not because live streams have objects."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app import create_app
from config import Settings
from tests.client import conversation
from tests.server import Server, eventually
from transport.gc_policy import MIN_CLOSED, GcPolicy


class Cycle:
    """Garbage that reference counts do not free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def policy() -> Iterator[GcPolicy]:
    """In force."""
    policy = GcPolicy()
    policy.freeze_startup()
    yield policy
    policy.restore()


def closes_until_freed(policy: GcPolicy, open_sessions: int) -> int:
    """Connections that must close before a cycle is freed."""
    gc.collect()
    gc.disable()
    try:
        left = weakref.ref(Cycle())
        for closed in range(1, 10 * MIN_CLOSED):
            policy.connection_closed(open_sessions)
            if left() is None:
                return closed
    finally:
        gc.enable()
    raise AssertionError("it is never freed")


def test_when_as_many_have_closed_as_are_open(policy: GcPolicy) -> None:
    """So that what a collection costs, which grows with the open ones, is shared by as many."""
    assert closes_until_freed(policy, 3 * MIN_CLOSED) == 3 * MIN_CLOSED
    assert closes_until_freed(policy, 3 * MIN_CLOSED) == 3 * MIN_CLOSED, "it counts anew"
    assert closes_until_freed(policy, 0) == MIN_CLOSED, "but for a few it is not worth it"


def collections_while_messages_pass() -> int:
    """Full collections that Python starts while objects live just long enough to survive its smaller ones."""
    before: int = gc.get_stats()[2]["collections"]
    lasting = [[0] for _ in range(10_000)]
    for _ in range(60):
        lasting = [[0] for _ in range(10_000)]
    assert lasting
    after: int = gc.get_stats()[2]["collections"]
    return after - before


def test_live_streams_are_no_reason(policy: GcPolicy) -> None:
    """Python alone collects again and again, only because messages are on their way."""
    assert collections_while_messages_pass() == 0
    policy.restore()
    assert collections_while_messages_pass() > 0


def test_the_process_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's lifespan begins and ends it."""
    monkeypatch.setattr("observability.logging.configure", lambda _: None)  # it is the process's, not this test's
    before = gc.get_threshold(), gc.get_freeze_count()

    async def serve() -> tuple[tuple[int, int, int], int]:
        ready = threading.Event()
        app = create_app(Settings(backend="mock", references=Path("references")), ready.set)
        async with app.router.lifespan_context(app):
            await asyncio.to_thread(eventually, ready.is_set)
            return gc.get_threshold(), gc.get_freeze_count()

    thresholds, frozen = asyncio.run(serve())
    assert thresholds[:2] == before[0][:2]
    assert thresholds[2] > before[0][2]
    assert frozen > before[1]
    assert gc.get_threshold() == before[0]
    assert gc.get_freeze_count() <= before[1], "nothing of a server that has ended is kept"


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/nope", "/health"])
def test_http_requests_count(folder: Path, path: str) -> None:
    """Requests with bodies that nobody reads leave cycles as sockets do: memory stays flat over thousands of them."""
    body = bytes(50_000)

    def post(client: httpx.Client, times: int) -> None:
        for _ in range(times):
            client.post(path, content=body)

    with Server(folder, {"STT_BACKEND": "mock"}) as server, httpx.Client(base_url=server.http) as client:
        post(client, 600)
        before = server.resident_bytes()
        post(client, 2_000)
        assert server.resident_bytes() - before < 2_000 * len(body) / 2


@pytest.mark.slow
def test_refused_sockets_count(folder: Path) -> None:
    """Connections that break the protocol leave cycles too: memory stays flat over hundreds of them."""
    with Server(folder, {"STT_BACKEND": "mock"}) as server:

        def break_the_protocol(times: int) -> None:
            for _ in range(times):
                with conversation(server.ws()) as client:
                    client.socket.send(bytes(500_000))
                    client.rest()

        break_the_protocol(300)
        before = server.resident_bytes()
        break_the_protocol(600)
        assert server.resident_bytes() - before < 150_000_000
