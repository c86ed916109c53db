"""The engine's life, on a thread and an event loop of its own: start, serve, die, be rebuilt, close.

The thread outlives the engine's processes, which are killed when it ends (see `guard`).
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
from backends.qwen3.guard import guard_forks
from backends.qwen3.model import Model
from backends.qwen3.options import Qwen3Options
from backends.qwen3.warmup import warm_up

FIRST_DELAY_SECONDS = 1.0
"""Before an engine that died or did not start is tried again; twice as long after each start that fails."""

LONGEST_DELAY_SECONDS = 30.0

CLOSE_SECONDS = 8.0
"""Longest wait for the thread: only an import of vLLM, which nothing can stop, takes more."""

_LOOK_SECONDS = 0.1
"""Between two looks at a thread that is to end."""


class Life:
    """Builds models, one after another, and lets `serve` have each for as long as that takes."""

    def __init__(
        self,
        options: Qwen3Options,
        build: Callable[[Qwen3Options], Model],
        serve: Callable[[Model], Awaitable[None]],
    ) -> None:
        """`build` starts a model, and blocks for as long as that takes.

        `serve` runs on `loop` and returns when its model is dead, or once `closing` is set.
        """
        self.loop = asyncio.new_event_loop()
        self.closing = threading.Event()
        self._options = options
        self._new_model = build
        self._serve = serve
        self._ready: Future[None] = Future()
        self._stop = asyncio.Event()
        """`closing`, for the loop."""
        self._lock = threading.Lock()
        # A daemon: a server that ends by an exception must not hang here, and the guard ends what it leaves.
        self._thread = threading.Thread(target=self._run, name="qwen3-engine", daemon=True)
        self._building = False
        self._others: set[multiprocessing.process.BaseProcess] = set()
        """Processes that were there before the engine's."""

    def start(self) -> None:
        """Begin; blocks until the first model is warm.

        Raises:
            EngineError: it does not start, or `close` was called.
        """
        with self._lock:
            if self.closing.is_set():
                raise EngineError("closed before it started")
            self._others = set(multiprocessing.active_children())
            self._thread.start()
        self._ready.result()

    def warm(self) -> None:
        """Let `start` return; called by `serve` when its model can be used."""
        with contextlib.suppress(InvalidStateError):  # warm again, or closed
            self._ready.set_result(None)

    async def rest(self, seconds: float) -> None:
        """Sleep, but not beyond the close."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    def close(self) -> None:
        """End the processes and the thread; any other thread. Idempotent."""
        with self._lock:
            self.closing.set()
            started = self._thread.ident is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self.loop.call_soon_threadsafe(self._stop.set)
        with contextlib.suppress(InvalidStateError):  # done already
            self._ready.set_exception(EngineError("closed while it started"))
        deadline = time.monotonic() + CLOSE_SECONDS
        while started and self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(_LOOK_SECONDS)
            if self._building:
                self._interrupt()
        if not started:
            self.loop.close()

    def _interrupt(self) -> None:
        """End a start that blocks the loop: it waits for its processes."""
        for child in set(multiprocessing.active_children()) - self._others:
            child.kill()
            child.join(_LOOK_SECONDS)

    def _run(self) -> None:
        guard_forks(threading.get_ident())
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while not self.closing.is_set():
            model = await self._build()
            if model is not None:
                delay = FIRST_DELAY_SECONDS
                try:
                    await self._serve(model)
                finally:
                    model.shutdown()
            elif self._ready.exception() is not None:
                return
            await self.rest(delay)
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    async def _build(self) -> Model | None:
        """A warm model, or None: it did not start, and `start` or the log knows."""
        model: Model | None = None
        began = time.monotonic()
        self._building = True
        try:
            # This blocks the loop: nothing else lives on it now.
            model = self._new_model(self._options)
            await warm_up(model, self._options)
        except Exception as error:  # noqa: BLE001 - whatever vLLM raises, there is no engine
            if model is not None:
                model.shutdown()
            self._report(error)
            return None
        finally:
            self._building = False
        structlog.get_logger().info("engine_warm", seconds=round(time.monotonic() - began, 1))
        return model

    def _report(self, error: Exception) -> None:
        failure = EngineError(f"the engine did not start: {type(error).__name__}: {error}")
        failure.__cause__ = error
        try:
            self._ready.set_exception(failure)
        except InvalidStateError:
            if not self.closing.is_set():
                structlog.get_logger().error("engine_not_rebuilt", error=str(failure))
