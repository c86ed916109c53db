"""How orders reach the qwen3 engine's model: on a model that does what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backends.base import EngineError
from backends.qwen3.audio import Recording
from backends.qwen3.desk import HUNG_LOOKS, Desk, Order, Result
from backends.qwen3.model import Answer, Lost, Model, Request
from backends.qwen3.schedule import Purpose


class Slow:
    """Renders when it is let, and decodes at once; keeps a record."""

    def __init__(self) -> None:
        self.let = asyncio.Semaphore(0)
        self.record: list[str] = []
        self.losses = 0
        self.failing = False
        self.stuck = False

    async def render(self, request: Request, *, whole: bool = False) -> str:
        self.record.append(f"render {request.max_tokens}{' whole' if whole else ''}")
        if not whole:
            await self.let.acquire()
        if self.failing:
            raise ValueError("too long")
        return "rendered"

    async def generate(self, rendered: str, request: Request, name: str) -> Answer:
        if self.losses:
            self.losses -= 1
            raise Lost(name)
        if self.stuck:
            await asyncio.sleep(60)
        return Answer((request.max_tokens,), runaway=False, prompt_tokens=1, cached_tokens=0)

    async def discard(self, rendered: str, request: Request, name: str) -> None:
        self.record.append(f"discard {request.max_tokens}")


class Bench:
    """A desk at work, and what became of its orders."""

    def __init__(self, seats: int = 2) -> None:
        self.model = Slow()
        self.ended: dict[int, Result] = {}
        self.desk = Desk(cast("Model", self.model), seats, self._ended)

    def order(self, number: int, purpose: Purpose) -> Order:
        order = Order(number, purpose, Request((), (), number, purpose), lambda _: None)
        self.desk.take(order)
        return order

    async def settle(self, renders: int = 0) -> None:
        """Let so many orders be rendered, and everything happen that can."""
        for _ in range(renders):
            self.model.let.release()
        for _ in range(20):
            await asyncio.sleep(0)

    def _ended(self, order: Order, result: Result) -> None:
        self.ended[order.number] = result


def at_work(scene: Callable[[Bench], Awaitable[Any]]) -> Bench:
    async def run() -> Bench:
        bench = Bench()
        serving = asyncio.create_task(bench.desk.run())
        await scene(bench)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return bench

    return asyncio.run(run())


def test_finals_overtake() -> None:
    """What waits to be rendered is served by urgency, and in order of arrival within it."""

    async def scene(bench: Bench) -> None:
        bench.order(1, Purpose.REFRESH)
        await bench.settle()
        for number, purpose in enumerate((Purpose.BATCH, Purpose.REFRESH, Purpose.FINAL, Purpose.FINAL), 2):
            bench.order(number, purpose)
        await bench.settle(renders=5)

    assert at_work(scene).model.record == [f"render {number}" for number in (1, 4, 5, 3, 2)]


def test_dropped_while_it_waits() -> None:
    """An order that nobody wants by its turn costs nothing."""

    async def scene(bench: Bench) -> None:
        bench.order(1, Purpose.FINAL)
        bench.order(2, Purpose.FINAL).dropped = True
        await bench.settle(renders=2)

    bench = at_work(scene)
    assert bench.model.record == ["render 1"]
    assert list(bench.ended) == [1]


def test_dropped_while_it_is_rendered() -> None:
    """The engine is sent what was rendered, because the renderer will not send it again; nothing is decoded."""

    async def scene(bench: Bench) -> None:
        order = bench.order(1, Purpose.REFRESH)
        await bench.settle()
        order.dropped = True
        bench.desk.drop(order)
        await bench.settle(renders=1)

    bench = at_work(scene)
    assert bench.model.record == ["render 1", "discard 1"]
    assert bench.ended == {}


def test_dropped_while_it_is_decoded() -> None:
    """It is aborted, and a file's next piece gets its seat."""

    async def scene(bench: Bench) -> None:
        bench.model.stuck = True
        first, _, _ = [bench.order(number, Purpose.BATCH) for number in (1, 2, 3)]
        await bench.settle(renders=3)
        assert bench.model.record == ["render 1", "render 2"]
        first.dropped = True
        bench.desk.drop(first)
        await bench.settle()

    bench = at_work(scene)
    assert bench.model.record == ["render 1", "render 2", "render 3"]
    assert bench.ended == {}


def test_where_the_time_went() -> None:
    """An order waits while another is rendered, then is rendered, then is in the engine."""

    async def scene(bench: Bench) -> None:
        bench.model.stuck = True
        bench.order(1, Purpose.REFRESH)
        order = bench.order(2, Purpose.REFRESH)
        await asyncio.sleep(0.03)
        await bench.settle(renders=1)
        await asyncio.sleep(0.02)
        await bench.settle(renders=1)
        await asyncio.sleep(0.01)
        took = order.took
        assert took.waiting >= 0.03
        assert took.rendering >= 0.02
        assert took.decoding >= 0.01
        assert took.total <= order.age

    at_work(scene)


def test_lost_audio_is_sent_again() -> None:
    """Once, and whole."""

    async def scene(bench: Bench) -> None:
        bench.model.losses = 1
        bench.order(1, Purpose.FINAL)
        await bench.settle(renders=1)

    bench = at_work(scene)
    assert bench.model.record == ["render 1", "render 1 whole"]
    assert isinstance(bench.ended[1], Answer)


def test_a_failure_is_the_orders_own() -> None:
    """One that cannot be rendered fails; its seat is free again."""

    async def scene(bench: Bench) -> None:
        bench.model.failing = True
        for number in (1, 2, 3):
            bench.order(number, Purpose.BATCH)
        await bench.settle(renders=3)

    ended = at_work(scene).ended
    assert sorted(ended) == [1, 2, 3]
    assert all(isinstance(result, EngineError) for result in ended.values())


def test_hung_is_taken_and_not_moving() -> None:
    """Rest is not death, however long; a minute without an end of anything is."""
    seen: list[bool] = []

    async def scene(bench: Bench) -> None:
        def looks() -> bool:
            return any(bench.desk.look() for _ in range(2 * HUNG_LOOKS))

        seen.append(looks())
        bench.order(1, Purpose.FINAL)
        await bench.settle()
        seen.append(bench.desk.look())
        seen.append(looks())
        await bench.settle(renders=1)
        seen.append(bench.desk.look())

    at_work(scene)
    assert seen == [False, False, True, False]


# what is kept of an utterance


@given(st.lists(st.lists(st.sampled_from([0.0, 0.25, -0.5]), max_size=9), max_size=9))
def test_recordings_keep_everything(chunks: list[list[float]]) -> None:
    """Whatever the pieces: the same samples, and the first that sounds; a cut stays as it was."""
    recording, cuts = Recording(), []
    for chunk in chunks:
        recording.append(np.array(chunk * 9000, np.float32))
        cuts.append(recording.cut(0, len(recording)).copy())
    whole = np.array([sample for chunk in chunks for sample in chunk * 9000], np.float32)
    sounding = np.flatnonzero(whole)
    assert np.array_equal(recording.cut(0, len(recording)), whole)
    assert recording.sound == (int(sounding[0]) if len(sounding) else None)
    assert all(np.array_equal(cut, whole[: len(cut)]) for cut in cuts)
