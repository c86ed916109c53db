"""Sockets that rest are read together."""

from __future__ import annotations

import asyncio

from transport.bell import RING_SECONDS, Bell


class Sleeper:
    def __init__(self, rings: int) -> None:
        self.left = rings
        self.woken_at: float | None = None

    def rings(self, now: float) -> bool:
        self.left -= 1
        if self.left == 0:
            self.woken_at = now
        return self.left == 0


def test_all_that_wake_at_a_ring_wake_together() -> None:
    """Each is asked at every ring until it wakes, and never again; who comes when none rests has a ring as well."""

    async def night() -> None:
        bell = Bell()
        early, also_early, late = sleepers = [Sleeper(1), Sleeper(1), Sleeper(3)]
        for each in sleepers:
            bell.rest(each)
        await _woken(late)
        assert early.woken_at == also_early.woken_at is not None
        latecomer = Sleeper(1)
        bell.rest(latecomer)
        await _woken(latecomer)
        assert [each.left for each in sleepers] == [0, 0, 0]

    asyncio.run(asyncio.wait_for(night(), 10))


def test_a_bell_that_stops_wakes_everybody_at_once() -> None:
    """And nobody rests after it."""

    async def morning() -> None:
        bell, sleeper = Bell(lambda: True), Sleeper(1)
        bell.rest(sleeper)
        assert bell.crowded()
        await bell.stop()
        assert sleeper.woken_at is not None
        assert not bell.crowded()

    asyncio.run(asyncio.wait_for(morning(), 10))


async def _woken(sleeper: Sleeper) -> None:
    while sleeper.woken_at is None:  # noqa: ASYNC110 - a bell tells nobody else
        await asyncio.sleep(RING_SECONDS / 4)
