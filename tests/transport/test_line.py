"""Workers have their turns one after another."""

from __future__ import annotations

import asyncio
import time

from transport.line import TURN_SECONDS, Line, Wake


class Workers:
    """Workers that line up with a deadline, and note who was woken."""

    def __init__(self) -> None:
        self.line = Line()
        self.woken: list[str] = []
        self._wakes: dict[str, Wake] = {}

    def line_up(self, deadline: float, name: str) -> None:
        def wake() -> bool:
            self.woken.append(name)
            return not name.startswith("gone")

        self._wakes[name] = wake
        self.line.line_up(deadline, self._wakes[name])

    def done(self, name: str) -> None:
        self.line.next(self._wakes[name])


def test_the_earliest_deadline_is_first_and_each_wakes_the_next() -> None:
    """Only one is woken by the loop; of two that are equally urgent the one that came first is."""

    async def queue() -> list[str]:
        workers = Workers()
        for deadline, name in ((3, "late"), (1, "first"), (1, "second"), (2, "middle")):
            workers.line_up(deadline, name)
        assert workers.woken == []
        await asyncio.sleep(0)
        for name in ("first", "second", "middle", "late"):
            assert workers.woken[-1] == name
            workers.done(name)
        return workers.woken

    assert asyncio.run(queue()) == ["first", "second", "middle", "late"]


def test_one_has_a_turn_at_a_time() -> None:
    """Neither a worker that woke for another reason nor who lines up meanwhile lets in a second one."""

    async def queue() -> list[str]:
        workers = Workers()
        workers.line_up(1, "busy")
        await asyncio.sleep(0)
        workers.line_up(2, "waits")
        await asyncio.sleep(0)
        workers.line.next(lambda: True)
        assert workers.woken == ["busy"]
        workers.done("busy")
        return workers.woken

    assert asyncio.run(queue()) == ["busy", "waits"]


def test_a_worker_that_does_not_come_back_holds_up_nobody_for_long() -> None:
    """After 20 ms the next who asks lets the first in line have a turn."""

    async def queue() -> list[str]:
        workers = Workers()
        workers.line_up(1, "stuck")
        workers.line_up(2, "behind it")
        await asyncio.sleep(0)
        ends = time.monotonic() + TURN_SECONDS
        while time.monotonic() < ends:  # noqa: ASYNC110 - a clock tells nobody
            await asyncio.sleep(TURN_SECONDS / 4)
        workers.line_up(3, "last")
        await asyncio.sleep(0)
        workers.done("stuck")  # too late: it is another's turn
        assert workers.woken == ["stuck", "behind it"]
        workers.done("behind it")
        return workers.woken

    assert asyncio.run(queue()) == ["stuck", "behind it", "last"]


def test_who_is_gone_needs_no_turn() -> None:
    """The next in line has it at once."""

    async def queue() -> list[str]:
        workers = Workers()
        for deadline, name in enumerate(("gone", "gone too", "here", "last")):
            workers.line_up(deadline, name)
        await asyncio.sleep(0)
        return workers.woken

    assert asyncio.run(queue()) == ["gone", "gone too", "here"]
