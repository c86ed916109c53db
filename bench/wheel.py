"""The timer wheel that paces all speakers of the load generator, and watches how well it does.

The generator must not be what limits a measurement: it knows how late it sent, and what part of a core it took.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import uvloop

from bench.load import Speaker
from bench.stats import percentile
from protocol.pcm import FRAME_MS

T = TypeVar("T")
WHEEL_SLOTS = 200
"""Slots of 0.1 ms in the 20 ms of a frame."""
_LOOK_TURNS = 5
"""Between two looks at whether all is said."""
MAX_LATE_MS = 20.0
MAX_CPU = 0.9
"""Beyond either, the generator was the limit: p99 lateness in ms, part of one core."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The generator at one moment."""

    time: float
    """Monotonic seconds."""
    cpu: float
    """CPU seconds of this process."""
    slots: int
    """Slots passed."""
    frames: int
    """Frames sent by all speakers."""


class Wheel:
    """Sends a frame for every speaker every 20 ms, each in its own slot of the wheel, from a thread of its own.

    Timers of an event loop are no finer than 1 ms: at hundreds of streams their frames would leave, and reach the
    server, in bursts that cost it less than independent clients do.
    """

    def __init__(self, speakers: Sequence[Speaker], slots: Sequence[int], speed: float = 1.0) -> None:
        """`slots`: the slot of each speaker, 0 to `WHEEL_SLOTS` - 1; `speed`: 2 is twice as fast as live."""
        self.speakers = speakers
        by_slot: dict[int, list[Speaker]] = {}
        for speaker, slot in zip(speakers, slots, strict=True):
            by_slot.setdefault(slot, []).append(speaker)
        self._turn_seconds = FRAME_MS / 1000 / speed
        self._slots = [(slot * self._turn_seconds / WHEEL_SLOTS, by_slot[slot]) for slot in sorted(by_slot)]
        """When in a turn, in seconds, and who."""
        self._late = array("d")
        self._stopped = False

    def turn(self) -> None:
        """Send until every speaker's frames are sent or `stop` is called; the body of a thread."""
        turns, began = 0, time.monotonic()
        while not self._stopped:
            for after, speakers in self._slots:
                due = began + turns * self._turn_seconds + after
                wait = due - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                self._late.append(time.monotonic() - due)
                for speaker in speakers:
                    speaker.speak()
            turns += 1
            if turns % _LOOK_TURNS == 0 and all(speaker.exhausted for speaker in self.speakers):
                return

    def stop(self) -> None:
        """End `turn`."""
        self._stopped = True

    def mark(self) -> Mark:
        """Now."""
        frames = sum(len(speaker.sent) for speaker in self.speakers)
        return Mark(time.monotonic(), time.process_time(), len(self._late), frames)

    def strain(self, begin: Mark, end: Mark) -> dict[str, float | bool | None]:
        """How hard the generator worked between two marks, and whether it was the limit."""
        late = percentile([seconds * 1000 for seconds in self._late[begin.slots : end.slots]], 99)
        cpu = (end.cpu - begin.cpu) / max(end.time - begin.time, 1e-9)
        return {
            "late_p99_ms": None if late is None else round(late, 2),
            "cpu": round(cpu, 3),
            "was_the_limit": cpu > MAX_CPU or late is None or late > MAX_LATE_MS,
        }


@asynccontextmanager
async def turning(wheel: Wheel) -> AsyncIterator[asyncio.Task[None]]:
    """The wheel turns while the context lasts."""
    task = asyncio.create_task(asyncio.to_thread(wheel.turn), name="wheel")
    try:
        yield task
    finally:
        wheel.stop()
        await task


async def every_second(seconds: float, look: Callable[[float], Awaitable[None] | None]) -> None:
    """Wait for `seconds`; call `look` with the part that is over (0 to 1) about once a second, and at the end."""
    began = time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        await asyncio.sleep(min(1.0, left))
        looking = look(min(1.0, (time.monotonic() - began) / seconds))
        if looking is not None:
            await looking


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop."""
    return uvloop.run(main)
