"""Starts the model, restarts it after its death, and ends it, on a thread and an event loop of its own.

The thread outlives the engine's processes: Linux kills them when the thread ends (see `parent_death`).
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, InvalidStateError

import structlog

from backends.base import EngineError
from backends.qwen3.options import Qwen3Options
from backends.qwen3.parent_death import kill_forks_with_parent
from backends.qwen3.restart_policy import FailureHistory, RestartPolicy
from backends.qwen3.vllm_model import VllmModel
from backends.qwen3.warmup import warm_up

CLOSE_SECONDS = 8.0
"""Longest wait for the thread. Only an import of vLLM, which cannot be interrupted, takes longer."""

_POLL_SECONDS = 0.1
"""Between two checks whether a thread or process has ended."""


class EngineSupervisor:
    """Builds one model after another and passes each to `serve`."""

    def __init__(
        self,
        options: Qwen3Options,
        build: Callable[[Qwen3Options], VllmModel],
        serve: Callable[[VllmModel], Awaitable[None]],
        policy: RestartPolicy,
        give_up: Callable[[], None],
    ) -> None:
        """Prepare; `start` starts the thread.

        Args:
            options: passed to `build`.
            build: starts a model; blocks.
            serve: runs on `loop`; returns when its model is dead or `closing` is set.
            policy: when to restart.
            give_up: called on the engine's thread when the policy allows no further restart.
        """
        self.loop = asyncio.new_event_loop()
        self.closing = threading.Event()
        self._options = options
        self._new_model = build
        self._serve = serve
        self._policy = policy
        self._give_up = give_up
        self.restarts = 0
        """Restarts that were begun."""
        self._ready: Future[None] = Future()
        self._stop = asyncio.Event()
        """Set with `closing`; for coroutines on the loop."""
        self._lock = threading.Lock()
        # A daemon thread, so that a server that ends by an exception does not wait for it.
        self._thread = threading.Thread(target=self._run, name="qwen3-engine", daemon=True)
        self._building = False
        self._earlier_children: set[multiprocessing.process.BaseProcess] = set()
        """Child processes that are not the engine's."""

    def start(self) -> None:
        """Start the thread and wait until the first model is warm. Call it once, from any thread.

        Raises:
            EngineError: the model does not start, or `close` was called.
        """
        with self._lock:
            if self.closing.is_set():
                raise EngineError("closed before it started")
            self._earlier_children = set(multiprocessing.active_children())
            self._thread.start()
        self._ready.result()

    def mark_ready(self) -> None:
        """Let `start` return. `serve` calls it when its model can be used."""
        with contextlib.suppress(InvalidStateError):  # a restarted model, or closed
            self._ready.set_result(None)

    async def sleep(self, seconds: float) -> None:
        """Sleep, at most until `close` is called."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    def close(self) -> None:
        """End the processes and the thread; any other thread may call it. Idempotent."""
        with self._lock:
            self.closing.set()
            started = self._thread.ident is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self.loop.call_soon_threadsafe(self._stop.set)
        with contextlib.suppress(InvalidStateError):  # resolved already
            self._ready.set_exception(EngineError("closed while it started"))
        deadline = time.monotonic() + CLOSE_SECONDS
        while started and self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(_POLL_SECONDS)
            if self._building:
                self._kill_starting_processes()
        if not started:
            self.loop.close()

    def _kill_starting_processes(self) -> None:
        """Interrupt `build`, which blocks the loop while it waits for its processes."""
        for child in set(multiprocessing.active_children()) - self._earlier_children:
            child.kill()
            child.join(_POLL_SECONDS)

    def _run(self) -> None:
        kill_forks_with_parent(threading.get_ident())
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._supervise())

    async def _supervise(self) -> None:
        failures = FailureHistory(self._policy)
        while not self.closing.is_set():
            model = await self._build()
            if model is not None:
                try:
                    await self._serve(model)
                finally:
                    model.shutdown()
            elif self._ready.exception() is not None:
                return  # the first start failed, and `start` raises
            if self.closing.is_set():
                return
            delay = failures.record(time.monotonic())
            if delay is None:
                structlog.get_logger().critical("engine_given_up", failures=self._policy.max_failures)
                self._give_up()
                return
            self.restarts += 1
            await self.sleep(delay)

    async def _build(self) -> VllmModel | None:
        """A warm model; None: it did not start, and the failure was reported."""
        model: VllmModel | None = None
        started_at = time.monotonic()
        self._building = True
        try:
            # Blocks the loop, on which nothing else runs now.
            model = self._new_model(self._options)
            await warm_up(model, self._options)
        except Exception as error:  # noqa: BLE001 - vLLM raises exceptions of many classes
            if model is not None:
                model.shutdown()
            self._report(error)
            return None
        finally:
            self._building = False
        structlog.get_logger().info("engine_warm", seconds=round(time.monotonic() - started_at, 1))
        return model

    def _report(self, error: Exception) -> None:
        failure = EngineError(f"the engine did not start: {type(error).__name__}: {error}")
        failure.__cause__ = error
        try:
            self._ready.set_exception(failure)
        except InvalidStateError:
            if not self.closing.is_set():
                structlog.get_logger().error("engine_not_rebuilt", error=str(failure))
