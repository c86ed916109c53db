"""The engine that all streams share: any thread starts and aborts decodes, one model serves them."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable

import structlog

from backends.base import EngineError
from backends.qwen3.dispatcher import POLL_SECONDS, DecodeJob, Dispatcher, Outcome
from backends.qwen3.metrics import EngineState
from backends.qwen3.options import Qwen3Options
from backends.qwen3.refresh_throttle import RefreshThrottle
from backends.qwen3.restart_policy import RestartPolicy
from backends.qwen3.schedule import Purpose
from backends.qwen3.stats import CompletedDecode, EngineStats, StatsCollector
from backends.qwen3.supervisor import EngineSupervisor
from backends.qwen3.vllm_model import DecodeOutput, DecodeRequest, ThreadSafeTokenizer, VllmModel


class SharedEngine:
    """One model for all streams. Any thread may call any method; only `start` and `close` wait."""

    def __init__(
        self,
        options: Qwen3Options,
        build: Callable[[Qwen3Options], VllmModel],
        on_completed: Callable[[CompletedDecode], None],
        restart_policy: RestartPolicy,
        give_up: Callable[[], None],
    ) -> None:
        """Prepare an engine; `start` starts it. See `Qwen3Backend` for the arguments."""
        self._options = options
        self._on_completed = on_completed
        self._supervisor = EngineSupervisor(options, build, self._serve, restart_policy, give_up)
        self._lock = threading.Lock()
        """Protects all attributes below. No callback runs under it."""
        self._numbers = itertools.count(1)
        self._throttle = RefreshThrottle(options)
        self._stats = StatsCollector()
        self._jobs: dict[int, DecodeJob] = {}
        """Jobs that are neither done nor aborted."""
        self._model: VllmModel | None = None
        """The model that serves now."""
        self._dispatcher: Dispatcher | None = None
        self._tokenizer: ThreadSafeTokenizer | None = None

    @property
    def tokenizer(self) -> ThreadSafeTokenizer:
        """The model's tokenizer.

        Raises:
            EngineError: the engine was never ready.
        """
        if self._tokenizer is None:
            raise EngineError("the engine has not started")
        return self._tokenizer

    def start(self) -> None:
        """See `EngineSupervisor.start`."""
        self._supervisor.start()

    def close(self) -> None:
        """End the processes and the thread; jobs in flight fail. Idempotent."""
        self._supervisor.close()

    def healthy(self) -> bool:
        """Whether a job submitted now would be decoded."""
        model = self._model
        return model is not None and not model.dead

    def refresh_spacing(self) -> int | None:
        """See `RefreshThrottle.spacing`."""
        with self._lock:
            return self._throttle.spacing(time.monotonic())

    def stats(self) -> EngineStats:
        """All decodes so far."""
        with self._lock:
            return self._stats.snapshot(self._throttle.in_flight)

    def state(self) -> EngineState:
        """The load now."""
        with self._lock:
            return EngineState(
                {purpose: self._throttle.in_flight_for(purpose) for purpose in Purpose},
                self._dispatcher.queued if self._dispatcher is not None else 0,
                self._throttle.spacing(time.monotonic()),
                self._supervisor.restarts,
            )

    def submit(
        self, purpose: Purpose, request: DecodeRequest, new_audio: float, on_done: Callable[[Outcome], None]
    ) -> DecodeJob:
        """Start a decode.

        Args:
            purpose: decides the decode's priority.
            request: the prompt and its audio.
            new_audio: seconds of audio in it that were not sent before.
            on_done: called once, on the engine's loop, unless the job is aborted first.

        Raises:
            EngineError: no engine runs now.
        """
        with self._lock:
            dispatcher = self._dispatcher
            if dispatcher is None or not self.healthy():
                raise EngineError("the engine is not running")
            job = DecodeJob(next(self._numbers), purpose, request, on_done)
            self._jobs[job.number] = job
            self._throttle.decode_started(purpose)
            self._stats.decode_started(purpose, new_audio)
            self._supervisor.loop.call_soon_threadsafe(dispatcher.submit, job)
            return job

    def abort(self, job: DecodeJob) -> None:
        """Abort a job: its `on_done` is not called any more, unless that call has begun."""
        job.aborted = True
        with self._lock:
            if self._jobs.pop(job.number, None) is None:
                return
            self._throttle.decode_ended(job.purpose)
            self._stats.decode_aborted()
            if self._dispatcher is not None:
                self._supervisor.loop.call_soon_threadsafe(self._dispatcher.abort, job)

    async def _serve(self, model: VllmModel) -> None:
        dispatcher = Dispatcher(model, self._options, self._on_job_done)
        dispatching = asyncio.create_task(dispatcher.run())
        with self._lock:
            self._model, self._dispatcher, self._tokenizer = model, dispatcher, model.tokenizer
        self._supervisor.mark_ready()
        hung = False
        while not (self._supervisor.closing.is_set() or model.dead or hung or dispatching.done()):
            await self._supervisor.sleep(POLL_SECONDS)
            hung = dispatcher.poll_hung()
        reason = "was closed" if self._supervisor.closing.is_set() else "hung" if hung else "died"
        with self._lock:
            self._model = self._dispatcher = None
            jobs = list(self._jobs.values())
        if not self._supervisor.closing.is_set():
            structlog.get_logger().error("engine_lost", reason=reason, jobs=len(jobs))
        dispatching.cancel()
        (ended,) = await asyncio.gather(dispatching, return_exceptions=True)
        if isinstance(ended, Exception):
            structlog.get_logger().error("engine_dispatcher_failed", exc_info=ended)
        for job in jobs:
            self._on_job_done(job, EngineError(f"the engine {reason}"))

    def _on_job_done(self, job: DecodeJob, outcome: Outcome) -> None:
        completed = CompletedDecode(job.purpose, outcome, job.timing) if isinstance(outcome, DecodeOutput) else None
        with self._lock:
            if self._jobs.pop(job.number, None) is None:
                return
            self._throttle.decode_ended(job.purpose)
            if completed is None:
                self._stats.decode_failed()
            else:
                self._stats.decode_completed(completed)
                if completed.purpose is Purpose.REFRESH:
                    self._throttle.refresh_took(completed.timing.total, time.monotonic())
        # A callback that raises must cost one utterance, not the engine.
        try:
            job.on_done(outcome)
            if completed is not None:
                self._on_completed(completed)
        except Exception:  # noqa: BLE001 - whatever a callback raises
            structlog.get_logger().exception("engine_callback_failed", job=job.number)
