"""What stands between a connection's pumps and its engine: two queues, and the thread that works between them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

from transport.inbound_queue import InboundQueue
from transport.outbox import Outbox


class WorkerThread:
    """A thread of its own for one connection, running; its end can be awaited. Used on the event loop."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        """Run `work` in it."""
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[BaseException | None] = self._loop.create_future()
        """None, or what its work failed with."""
        # A daemon, so that a second signal can end the process while an engine is stuck.
        threading.Thread(target=self._run, args=(work,), name=name, daemon=True).start()

    def _run(self, work: Callable[[], None]) -> None:
        failure: BaseException | None = None
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the connection, which logs it and closes with 1011
            failure = error
        # A closed loop means that the process ends, and nobody waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.ended.set_result, failure)


@dataclass(frozen=True, slots=True)
class Bridge:
    """What stands between one connection's pumps and its engine. Used on the event loop."""

    inbound: InboundQueue
    outbox: Outbox
    thread: WorkerThread

    def end(self, *, at_once: bool) -> None:
        """Drop what is not heard; what is queued is still sent, unless `at_once`."""
        self.inbound.end(drain=False)
        self.outbox.end(at_once=at_once)
