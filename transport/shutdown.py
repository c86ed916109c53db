"""Drains the sessions after SIGTERM or SIGINT, before uvicorn closes their sockets.

uvicorn closes every WebSocket with 1012 before the lifespan's shutdown runs, so a drain there would be too late. This
module wraps the signal handlers that uvicorn installed, and passes the signal on when the drain is done.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable
from types import FrameType

import structlog

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_GRACE_SECONDS = 1.0
"""Time for uvicorn to close its sockets after the drain. A client that does not read would keep it waiting for ever."""

_Handler = Callable[[int, FrameType | None], object]


class GracefulShutdown:
    """The first signal starts a drain, the second ends the process at once. Used on the main thread's loop."""

    def __init__(self, drain: Callable[[], Awaitable[None]], release: Callable[[], Awaitable[None]]) -> None:
        """`drain` ends the sessions. `release` ends what would otherwise outlive a server that is forced to stop."""
        self._drain = drain
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._next: dict[int, _Handler] = {}
        self._stopping: asyncio.Task[None] | None = None
        self._signals = 0

    def install(self) -> None:
        """Wrap the installed signal handlers; does nothing if there are none."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler) and handler is not signal.default_int_handler:
                self._next[number] = handler
                signal.signal(number, self._handle)

    async def remove(self) -> None:
        """Restore the former handlers, and stop waiting for the server, which shuts down cleanly."""
        for number, handler in self._next.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, handler)
        if self._stopping is not None:
            self._stopping.cancel()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals == 1:
            self._loop.call_soon_threadsafe(self._begin, number)
            return
        self._hand_on(number, frame)
        self._force()

    def _begin(self, number: int) -> None:
        self._stopping = self._loop.create_task(self._stop(number), name="stop")

    async def _stop(self, number: int) -> None:
        log = structlog.get_logger()
        log.info("draining", signal=signal.Signals(number).name)
        try:
            await self._drain()
        except Exception:  # the signal must be passed on whatever went wrong
            log.exception("drain_failed")
        self._hand_on(number, None)
        await asyncio.sleep(_GRACE_SECONDS)
        log.warning("clients_hold_the_server", seconds=_GRACE_SECONDS)
        await self._release()
        self._force()

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        self._next[number](number, frame)

    def _force(self) -> None:
        # uvicorn takes SIGINT during its shutdown as "do not wait for clients".
        if signal.SIGINT in self._next:
            self._next[signal.SIGINT](signal.SIGINT, None)
