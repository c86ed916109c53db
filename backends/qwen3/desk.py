"""What one model does at once: renders one order at a time, most urgent first, and decodes them together.

All multimodal rendering of vLLM runs in one thread, in order of arrival. So orders queue here, where a final overtakes,
and where one that is not wanted any more costs nothing. Lives on the engine's loop.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from backends.base import EngineError
from backends.qwen3.model import Answer, Lost, Model, Request
from backends.qwen3.schedule import Purpose
from backends.qwen3.work import Took

LOOK_SECONDS = 0.1
"""Between two looks at whether the engine lives; decodes in flight learn it from vLLM at once."""

HUNG_LOOKS = 600
"""A minute of looks without an end of any decode while some are in work: the engine is alive and does nothing.

Counted, not timed: a server that was stopped for a while saw nothing end, and its engine is well.
"""

Result = Answer | EngineError


@dataclass(slots=True, eq=False)
class Order:
    """One decode."""

    number: int
    """Not used before in this process."""
    purpose: Purpose
    request: Request
    done: Callable[[Result], None]
    """Called once, on the engine's loop, unless it was dropped."""
    began: float = field(default_factory=time.monotonic)
    """Monotonic seconds, as the next two."""
    turned: float = 0.0
    """When its turn to be rendered came."""
    sent: float = 0.0
    """When it was handed to the engine."""
    dropped: bool = False
    """Set in the thread that dropped it."""
    task: asyncio.Task[None] | None = None
    """While it is decoded."""

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    @property
    def took(self) -> Took:
        """Where its time went until now, when its answer is there."""
        return Took(self.turned - self.began, self.sent - self.turned, time.monotonic() - self.sent)


class Desk:
    """Orders of one model; `ended` is told of each that was not dropped."""

    def __init__(self, model: Model, batch_seats: int, ended: Callable[[Order, Result], None]) -> None:
        self._model = model
        self._ended = ended
        self._seats = batch_seats
        """Pieces of files that may still join those in work."""
        self._pieces: deque[Order] = deque()
        """Pieces of files without a seat, oldest first."""
        self._queue: list[tuple[Purpose, int, Order]] = []
        self._work = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._taken = 0
        """Orders queued, rendered or decoded."""
        self._looks = 0
        """Since one of them ended, or the first after a rest came."""

    def look(self) -> bool:
        """Whether the engine hangs: it should have decoded something by now. Called every `LOOK_SECONDS`."""
        self._looks = self._looks + 1 if self._taken else 0
        return self._looks > HUNG_LOOKS

    def take(self, order: Order) -> None:
        """Queue an order."""
        if order.purpose is Purpose.BATCH:
            if not self._seats:
                self._pieces.append(order)
                return
            self._seats -= 1
        self._taken += 1
        heapq.heappush(self._queue, (order.purpose, order.number, order))
        self._work.set()

    def drop(self, order: Order) -> None:
        """Abort an order that is `dropped`, if it is decoded by now; otherwise its turn will show that it is."""
        if order.task is not None:
            order.task.cancel()

    async def run(self) -> None:
        """Serve orders until cancelled; then nothing of it runs."""
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                while self._queue:
                    await self._prepare(heapq.heappop(self._queue)[-1])
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _prepare(self, order: Order) -> None:
        if order.dropped:
            self._leave(order)
            return
        order.turned = time.monotonic()
        try:
            rendered = await self._model.render(order.request)
            order.sent = time.monotonic()
            if order.dropped:
                await self._model.discard(rendered, order.request, str(order.number))
                self._leave(order)
                return
        except Exception as error:  # noqa: BLE001 - whatever vLLM raises is the order's end
            self._end(order, _failure(error))
            self._leave(order)
            return
        order.task = asyncio.create_task(self._decode(order, rendered), name=f"qwen3-{order.number}")
        self._tasks.add(order.task)
        # Not at the end of the coroutine: a task that is cancelled before its first step has none.
        order.task.add_done_callback(lambda task: self._finished(order, task))

    async def _decode(self, order: Order, rendered: Any) -> None:  # noqa: ANN401 - vLLM's EngineInput
        name = str(order.number)
        result: Result
        try:
            try:
                result = await self._model.generate(rendered, order.request, name)
            except Lost as loss:
                structlog.get_logger().info("engine_lost_audio", order=order.number, reason=str(loss))
                rendered = await self._model.render(order.request, whole=True)
                result = await self._model.generate(rendered, order.request, f"{name}-again")
        except Exception as error:  # noqa: BLE001 - whatever vLLM raises is the order's end
            result = _failure(error)
        self._end(order, result)

    def _finished(self, order: Order, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # A cancelled task keeps its traceback, whose frames hold the order and its audio: a circle, but for this.
        order.task = None
        self._leave(order)
        if not task.cancelled() and task.exception() is not None:
            structlog.get_logger().error("engine_order_failed", order=order.number, exc_info=task.exception())

    def _end(self, order: Order, result: Result) -> None:
        if not order.dropped:
            self._ended(order, result)

    def _leave(self, order: Order) -> None:
        self._taken -= 1
        self._looks = 0
        if order.purpose is Purpose.BATCH:
            self._seats += 1
            if self._pieces:
                self.take(self._pieces.popleft())


def _failure(error: Exception) -> EngineError:
    failure = EngineError(f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
