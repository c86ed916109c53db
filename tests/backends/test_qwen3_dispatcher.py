"""How decodes reach the qwen3 engine's model, on a fake model that the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from backends.base import EngineError
from backends.qwen3.dispatcher import HUNG_POLLS, DecodeJob, Dispatcher, Outcome
from backends.qwen3.options import Qwen3Options
from backends.qwen3.schedule import Ending, Purpose
from backends.qwen3.vllm_model import CacheMiss, DecodeOutput, DecodeRequest, VllmModel

OPTIONS = Qwen3Options(max_inference_batch_size=2)


class FakeModel:
    """Renders when the test allows it, decodes at once, and records its calls."""

    def __init__(self) -> None:
        self.renders = asyncio.Semaphore(0)
        self.record: list[str] = []
        self.misses = 0
        self.failing = False
        self.stuck = False
        self.stuck_times = 0

    async def render(self, request: DecodeRequest, *, whole: bool = False) -> str:
        self.record.append(f"render {request.max_tokens}{' whole' if whole else ''}")
        if not whole:
            await self.renders.acquire()
        if self.failing:
            raise ValueError("too long")
        return "rendered"

    async def generate(self, rendered: str, request: DecodeRequest, name: str) -> DecodeOutput:
        if self.misses:
            self.misses -= 1
            raise CacheMiss(name)
        if self.stuck or self.stuck_times:
            self.stuck_times = max(0, self.stuck_times - 1)
            await asyncio.Event().wait()
        return DecodeOutput((request.max_tokens,), ending=Ending.STOP, prompt_tokens=1, cached_tokens=0)

    async def discard(self, rendered: str, request: DecodeRequest, name: str) -> None:
        self.record.append(f"discard {request.max_tokens}")


class Harness:
    """A dispatcher with a fake model, and the outcomes of its jobs."""

    def __init__(self, options: Qwen3Options) -> None:
        self.model = FakeModel()
        self.ended: dict[int, Outcome] = {}
        self.any_ended = asyncio.Event()
        self.dispatcher = Dispatcher(cast("VllmModel", self.model), options, self._ended)

    def submit(self, number: int, purpose: Purpose) -> DecodeJob:
        job = DecodeJob(number, purpose, DecodeRequest((), (), number, 20, purpose), lambda _: None)
        self.dispatcher.submit(job)
        return job

    async def run_ready(self, renders: int = 0) -> None:
        """Allow so many renders, then let all ready coroutines run."""
        for _ in range(renders):
            self.model.renders.release()
        for _ in range(20):
            await asyncio.sleep(0)

    def _ended(self, job: DecodeJob, outcome: Outcome) -> None:
        self.ended[job.number] = outcome
        self.any_ended.set()


def run_scene(scene: Callable[[Harness], Awaitable[Any]], options: Qwen3Options = OPTIONS) -> Harness:
    async def run() -> Harness:
        harness = Harness(options)
        serving = asyncio.create_task(harness.dispatcher.run())
        await scene(harness)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return harness

    return asyncio.run(run())


def test_finals_overtake() -> None:
    """Waiting jobs are rendered by priority, then in order of arrival."""

    async def scene(harness: Harness) -> None:
        harness.submit(1, Purpose.REFRESH)
        await harness.run_ready()
        for number, purpose in enumerate((Purpose.BATCH, Purpose.REFRESH, Purpose.FINAL, Purpose.FINAL), 2):
            harness.submit(number, purpose)
        await harness.run_ready(renders=5)

    assert run_scene(scene).model.record == [f"render {number}" for number in (1, 4, 5, 3, 2)]


def test_aborted_while_it_waits() -> None:
    """A job that is aborted before its turn is never rendered."""

    async def scene(harness: Harness) -> None:
        harness.submit(1, Purpose.FINAL)
        harness.submit(2, Purpose.FINAL).aborted = True
        await harness.run_ready(renders=2)

    harness = run_scene(scene)
    assert harness.model.record == ["render 1"]
    assert list(harness.ended) == [1]


def test_aborted_while_it_is_rendered() -> None:
    """The rendered audio is sent, because the renderer counts it as sent; nothing is decoded."""

    async def scene(harness: Harness) -> None:
        job = harness.submit(1, Purpose.REFRESH)
        await harness.run_ready()
        job.aborted = True
        harness.dispatcher.abort(job)
        await harness.run_ready(renders=1)

    harness = run_scene(scene)
    assert harness.model.record == ["render 1", "discard 1"]
    assert harness.ended == {}


def test_aborted_while_it_is_decoded() -> None:
    """The decode ends, and the next piece of a file gets its slot."""

    async def scene(harness: Harness) -> None:
        harness.model.stuck = True
        first, _, _ = [harness.submit(number, Purpose.BATCH) for number in (1, 2, 3)]
        await harness.run_ready(renders=3)
        assert harness.model.record == ["render 1", "render 2"]
        first.aborted = True
        harness.dispatcher.abort(first)
        await harness.run_ready()

    harness = run_scene(scene)
    assert harness.model.record == ["render 1", "render 2", "render 3"]
    assert harness.ended == {}


def test_timing() -> None:
    """A job's time is split into waiting, rendering and decoding."""

    async def scene(harness: Harness) -> None:
        harness.model.stuck = True
        harness.submit(1, Purpose.REFRESH)
        job = harness.submit(2, Purpose.REFRESH)
        await asyncio.sleep(0.03)
        await harness.run_ready(renders=1)
        await asyncio.sleep(0.02)
        await harness.run_ready(renders=1)
        await asyncio.sleep(0.01)
        took = job.timing
        assert took.waiting >= 0.03
        assert took.rendering >= 0.02
        assert took.decoding >= 0.01
        assert took.total <= job.age

    run_scene(scene)


def test_a_cache_miss_is_rendered_again() -> None:
    """After a cache miss the request is rendered whole, once."""

    async def scene(harness: Harness) -> None:
        harness.model.misses = 1
        harness.submit(1, Purpose.FINAL)
        await harness.run_ready(renders=1)

    harness = run_scene(scene)
    assert harness.model.record == ["render 1", "render 1 whole"]
    assert isinstance(harness.ended[1], DecodeOutput)


def test_a_failure_fails_one_job() -> None:
    """A job that cannot be rendered fails and frees its slot."""

    async def scene(harness: Harness) -> None:
        harness.model.failing = True
        for number in (1, 2, 3):
            harness.submit(number, Purpose.BATCH)
        await harness.run_ready(renders=3)

    ended = run_scene(scene).ended
    assert sorted(ended) == [1, 2, 3]
    assert all(isinstance(result, EngineError) for result in ended.values())


def test_an_idle_engine_does_not_hang() -> None:
    """Without jobs, no number of polls counts as a hang."""

    async def scene(harness: Harness) -> None:
        assert not any(harness.dispatcher.poll_hung() for _ in range(2 * HUNG_POLLS))

    run_scene(scene)


def test_a_minute_without_output_is_a_hang() -> None:
    """An engine with a job and without output hangs after a minute of polls; an output starts the minute anew."""

    async def scene(harness: Harness) -> None:
        harness.submit(1, Purpose.FINAL)
        assert not any(harness.dispatcher.poll_hung() for _ in range(HUNG_POLLS))
        await harness.run_ready(renders=1)
        harness.submit(2, Purpose.FINAL)
        await harness.run_ready()
        assert not any(harness.dispatcher.poll_hung() for _ in range(HUNG_POLLS))
        assert harness.dispatcher.poll_hung()

    run_scene(scene)


def test_aborts_do_not_hide_a_hang() -> None:
    """An engine whose finals are stuck hangs after a minute, although somebody pauses and resumes every second."""

    async def scene(harness: Harness) -> None:
        harness.model.stuck = True
        for number in range(5):
            harness.submit(number, Purpose.FINAL)
        await harness.run_ready(renders=5)
        hung = False
        for number in range(5, 5 + HUNG_POLLS // 10 + 1):
            resumed = harness.submit(number, Purpose.FINAL)
            await harness.run_ready(renders=1)
            resumed.aborted = True
            harness.dispatcher.abort(resumed)
            await harness.run_ready()
            hung = any(harness.dispatcher.poll_hung() for _ in range(10))
        assert hung

    run_scene(scene)


@pytest.mark.parametrize(("stuck", "outcome"), [(1, DecodeOutput), (2, EngineError)])
def test_a_decode_has_a_deadline(stuck: int, outcome: type) -> None:
    """A decode that never ends is aborted and repeated once; if that never ends either, the job fails."""

    async def scene(harness: Harness) -> None:
        harness.model.stuck_times = stuck
        harness.submit(1, Purpose.FINAL)
        await harness.run_ready(renders=1)
        await harness.any_ended.wait()

    harness = run_scene(scene, Qwen3Options(decode_seconds=0.05))
    assert harness.model.record == ["render 1", "render 1 whole"]
    assert isinstance(harness.ended[1], outcome)
