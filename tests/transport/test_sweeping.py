"""Full looks for circles of garbage come when sockets have closed, and not because many live on."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import create_app
from config import Settings
from tests.garbage import nobody_looks
from tests.server import eventually
from transport.sweeping import LEAST_ENDED, Sweeper


class Circle:
    """Garbage that reference counts do not free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def sweeper() -> Iterator[Sweeper]:
    """At work."""
    sweeper = Sweeper()
    sweeper.begin()
    yield sweeper
    sweeper.end()


def ends_until_freed(sweeper: Sweeper, still_open: int) -> int:
    """Sockets that must close before garbage is freed."""
    with nobody_looks():
        left = weakref.ref(Circle())
        for ended in range(1, 10 * LEAST_ENDED):
            sweeper.ended(still_open)
            if left() is None:
                return ended
    raise AssertionError("it is never freed")


def test_when_as_many_have_ended_as_are_open(sweeper: Sweeper) -> None:
    """So that what a look costs, which grows with the open ones, is shared by as many."""
    assert ends_until_freed(sweeper, 3 * LEAST_ENDED) == 3 * LEAST_ENDED
    assert ends_until_freed(sweeper, 3 * LEAST_ENDED) == 3 * LEAST_ENDED, "it counts anew"
    assert ends_until_freed(sweeper, 0) == LEAST_ENDED, "but for a few it is not worth it"


def full_looks_while_messages_pass() -> int:
    """Full looks of Python's own while objects live just long enough to outlive its smaller ones."""
    before: int = gc.get_stats()[2]["collections"]
    lasting = [[0] for _ in range(10_000)]
    for _ in range(60):
        lasting = [[0] for _ in range(10_000)]
    assert lasting
    after: int = gc.get_stats()[2]["collections"]
    return after - before


def test_live_streams_are_no_reason(sweeper: Sweeper) -> None:
    """Python alone looks at everything again and again, only because messages are on their way."""
    assert full_looks_while_messages_pass() == 0
    sweeper.end()
    assert full_looks_while_messages_pass() > 0


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
