"""What is due in a crowd is done together."""

from __future__ import annotations

import asyncio

from transport.bell import RING_SECONDS, Bell


def test_all_that_is_due_is_called_at_one_ring() -> None:
    """Once each, in order; what is told later has another ring."""

    async def hour() -> list[str]:
        bell, called = Bell(), list[str]()
        bell.tell(lambda: called.append("first"))
        bell.tell(lambda: called.append("second"))
        assert called == []
        await asyncio.wait_for(_rung(called, 2), 5)
        bell.tell(lambda: called.append("third"))
        await asyncio.wait_for(_rung(called, 3), 5)
        return called

    assert asyncio.run(hour()) == ["first", "second", "third"]


async def _rung(called: list[str], count: int) -> None:
    while len(called) < count:  # noqa: ASYNC110 - a bell tells nobody else
        await asyncio.sleep(RING_SECONDS / 4)
