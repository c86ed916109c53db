"""Dispatches decodes to one model: renders one at a time, the most urgent first, and decodes all of them together.

vLLM renders all audio in one thread, in order of arrival. So decodes wait here until they are rendered: a final
overtakes others, and an aborted decode costs nothing. Everything here runs on the engine's event loop.
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
from backends.qwen3.options import Qwen3Options
from backends.qwen3.schedule import Purpose
from backends.qwen3.stats import DecodeTiming
from backends.qwen3.vllm_model import CacheMiss, DecodeOutput, DecodeRequest, VllmModel

POLL_SECONDS = 0.1
"""Seconds between two checks of the engine's health. Decodes in flight learn of its death from vLLM at once."""

HUNG_POLLS = 600
"""Polls (a minute) with decodes in flight and no output of any, after which the engine counts as hung.

Counted in polls: while the server itself is suspended, no poll happens.
"""

BATCH_PATIENCE = 10
"""How many times longer a piece of a file may take than live speech, because live speech overtakes it."""

Outcome = DecodeOutput | EngineError


@dataclass(slots=True, eq=False)
class DecodeJob:
    """One decode with its state."""

    number: int
    """Unique in this process."""
    purpose: Purpose
    request: DecodeRequest
    on_done: Callable[[Outcome], None]
    """Called once, on the engine's loop, unless the job was aborted."""
    created_at: float = field(default_factory=time.monotonic)
    """Monotonic seconds, as for the next two."""
    rendering_at: float = 0.0
    """When its rendering began."""
    decoding_at: float = 0.0
    """When it was passed to vLLM."""
    aborted: bool = False
    """Set by the thread that aborts the job."""
    task: asyncio.Task[None] | None = None
    """The task in which vLLM decodes it; None: it is not being decoded."""

    @property
    def age(self) -> float:
        """Seconds since it was created."""
        return time.monotonic() - self.created_at

    @property
    def timing(self) -> DecodeTiming:
        """Its time, by parts; valid when its output is there."""
        return DecodeTiming(
            self.rendering_at - self.created_at,
            self.decoding_at - self.rendering_at,
            time.monotonic() - self.decoding_at,
        )


class Dispatcher:
    """The jobs of one model."""

    def __init__(self, model: VllmModel, options: Qwen3Options, on_done: Callable[[DecodeJob, Outcome], None]) -> None:
        """Start with no jobs.

        Args:
            model: renders and decodes.
            options: has the batch slots and the longest decode.
            on_done: called for each job that was not aborted; must not raise.
        """
        self._model = model
        self._on_done = on_done
        self._decode_seconds = options.decode_seconds
        self._free_batch_slots = options.batch_slots
        self._waiting_batch: deque[DecodeJob] = deque()
        """Pieces of files without a slot, oldest first."""
        self._queue: list[tuple[Purpose, int, DecodeJob]] = []
        self._submitted = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_engine = 0
        """Jobs queued, rendered or decoded."""
        self._fruitless_polls = 0
        """Polls with jobs in the engine since it last had an output."""

    @property
    def queued(self) -> int:
        """Jobs that wait to be rendered or for a slot; any thread."""
        return len(self._queue) + len(self._waiting_batch)

    def poll_hung(self) -> bool:
        """Whether the engine hangs. Call every `POLL_SECONDS`."""
        # Aborted jobs prove nothing: a speaker who pauses and resumes would hide a hung engine for ever.
        self._fruitless_polls += 1 if self._in_engine else 0
        return self._fruitless_polls > HUNG_POLLS

    def submit(self, job: DecodeJob) -> None:
        """Queue a job."""
        if job.purpose is Purpose.BATCH:
            if not self._free_batch_slots:
                self._waiting_batch.append(job)
                return
            self._free_batch_slots -= 1
        self._in_engine += 1
        heapq.heappush(self._queue, (job.purpose, job.number, job))
        self._submitted.set()

    def abort(self, job: DecodeJob) -> None:
        """Stop a job that is marked `aborted`. A job that still waits is dropped when its turn comes."""
        if job.task is not None:
            job.task.cancel()

    async def run(self) -> None:
        """Serve jobs until cancelled; then end all of its tasks."""
        try:
            while True:
                await self._submitted.wait()
                self._submitted.clear()
                while self._queue:
                    await self._render(heapq.heappop(self._queue)[-1])
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _render(self, job: DecodeJob) -> None:
        if job.aborted:
            self._release(job)
            return
        job.rendering_at = time.monotonic()
        try:
            rendered = await self._model.render(job.request)
            job.decoding_at = time.monotonic()
            if job.aborted:
                await self._model.discard(rendered, job.request, str(job.number))
                self._release(job)
                return
        except Exception as error:  # noqa: BLE001 - vLLM raises exceptions of many classes
            self._finish(job, to_engine_error(error))
            self._release(job)
            return
        job.task = asyncio.create_task(self._decode(job, rendered), name=f"qwen3-{job.number}")
        self._tasks.add(job.task)
        # A callback, because a task that is cancelled before its first step never runs its coroutine.
        job.task.add_done_callback(lambda task: self._on_task_done(job, task))

    async def _decode(self, job: DecodeJob, rendered: Any) -> None:  # noqa: ANN401 - vLLM's EngineInput
        name = str(job.number)
        outcome: Outcome
        try:
            try:
                outcome = await self._generate(job, rendered, name)
            except (CacheMiss, TimeoutError) as failure:
                structlog.get_logger().warning("engine_decode_repeated", job=job.number, reason=repr(failure))
                rendered = await self._model.render(job.request, whole=True)
                outcome = await self._generate(job, rendered, f"{name}-again")
            self._fruitless_polls = 0
        except Exception as error:  # noqa: BLE001 - vLLM raises exceptions of many classes
            outcome = to_engine_error(error)
        self._finish(job, outcome)

    async def _generate(self, job: DecodeJob, rendered: Any, name: str) -> DecodeOutput:  # noqa: ANN401 - as above
        # vLLM has lost single requests: such a request never ends, while others do.
        async with asyncio.timeout(self._decode_seconds * (BATCH_PATIENCE if job.purpose is Purpose.BATCH else 1)):
            return await self._model.generate(rendered, job.request, name)

    def _on_task_done(self, job: DecodeJob, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        job.task = None
        self._release(job)
        if not task.cancelled() and task.exception() is not None:
            structlog.get_logger().error("engine_job_failed", job=job.number, exc_info=task.exception())

    def _finish(self, job: DecodeJob, outcome: Outcome) -> None:
        if not job.aborted:
            self._on_done(job, outcome)

    def _release(self, job: DecodeJob) -> None:
        self._in_engine -= 1
        if job.purpose is Purpose.BATCH:
            self._free_batch_slots += 1
            if self._waiting_batch:
                self.submit(self._waiting_batch.popleft())


def to_engine_error(error: Exception) -> EngineError:
    """Wrap an exception; its traceback stays with it."""
    wrapped = EngineError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
