"""Workers have their turns one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from transport.line import Line


def turn(line: Line, woken: list[str], name: str) -> tuple[float, Callable[[], None]]:
    """A worker that is woken, and one of its deadline's tenths of a second by its name."""
    return float(name[-1]), lambda: woken.append(name)


def test_the_earliest_deadline_is_first_and_each_wakes_the_next() -> None:
    """Only one is woken by the loop; of two that are equally urgent the one that came first is."""

    async def queue() -> list[str]:
        line, woken = Line(), list[str]()
        for name in ("late 3", "first 1", "second 1", "middle 2"):
            line.line_up(*turn(line, woken, name))
        assert woken == []
        await asyncio.sleep(0)
        assert woken == ["first 1"]
        for _ in range(5):
            line.next()
        return woken

    assert asyncio.run(queue()) == ["first 1", "second 1", "middle 2", "late 3"]


def test_who_lines_up_begins_a_line_that_stands_still() -> None:
    """A worker that was woken and never came back holds up nobody for long."""

    async def queue() -> list[str]:
        line, woken = Line(), list[str]()
        for name in ("stuck 1", "behind it 2"):
            line.line_up(*turn(line, woken, name))
        await asyncio.sleep(0)
        assert woken == ["stuck 1"]
        line.line_up(*turn(line, woken, "last 3"))
        await asyncio.sleep(0)
        return woken

    assert asyncio.run(queue()) == ["stuck 1", "behind it 2"]
