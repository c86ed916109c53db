"""What stands between a connection's pumps and its engine: two queues, and the worker thread between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from backends.base import StreamOptions
from inference.session_config import SessionConfig
from inference.session_worker import SessionWorker
from observability.connection_telemetry import ConnectionTelemetry
from protocol.dialect import SessionOptions
from protocol.events import Reason
from protocol.languages import primary_subtag
from transport.app_context import AppContext
from transport.inbox import Inbox
from transport.outbound_queue import OutboundQueue


class WorkerThread:
    """A running thread of one connection, whose end can be awaited. Used on the event loop."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        """Run `work` in it."""
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[BaseException | None] = self._loop.create_future()
        """None, or the exception that `work` raised."""
        # A daemon, so that a second signal can end the process while an engine hangs.
        threading.Thread(target=self._run, args=(work,), name=name, daemon=True).start()

    def _run(self, work: Callable[[], None]) -> None:
        failure: BaseException | None = None
        try:
            _yield_to_others()
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the connection, which logs it and closes with 1011
            failure = error
        # A closed loop means that the process ends, and nothing waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.ended.set_result, failure)


def _yield_to_others() -> None:
    """Have this thread, when it is woken, wait for whoever runs to stop: see sched(7), SCHED_BATCH.

    It would take the core from the thread that woke it, only to find that one holding the interpreter's lock, and go
    back to sleep. Half of all context switches are saved, and a tenth of the worker's CPU.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # some sandboxes forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


@dataclass(frozen=True, slots=True)
class Bridge:
    """One session's queues and thread. Used on the event loop."""

    inbound: Inbox
    outbound: OutboundQueue
    thread: WorkerThread

    def conclude(self, reason: Reason) -> None:
        """Process what is queued, then end the open utterance with `reason`; all finals are sent."""
        self.inbound.end(drain=True, reason=reason)

    def cancel(self, *, at_once: bool) -> None:
        """Drop what is not processed; what is queued for the client is still sent, unless `at_once`."""
        self.inbound.end(drain=False)
        self.outbound.end(at_once=at_once)


def open_bridge(
    context: AppContext,
    options: SessionOptions,
    telemetry: ConnectionTelemetry,
    transport: asyncio.Transport | None,
) -> Bridge:
    """Build a session's queues and pipeline, and start its worker thread."""
    inbound = Inbox(context.queues, telemetry, context.bell, context.line, transport)
    outbound = OutboundQueue(context.queues, telemetry)
    stream = StreamOptions(
        primary_subtag(options.language),
        options.hotwords,
        words=options.words,
        partial_ms=options.partial_ms,
        notify=inbound.wake,
    )
    segmenter = replace(context.segmenter, endpointing=options.endpointing)
    if options.silence_ms is not None:
        segmenter = replace(segmenter, silence_ms=options.silence_ms)
    vad = context.vad if options.vad_threshold is None else replace(context.vad, threshold=options.vad_threshold)
    config = SessionConfig(options.language, stream, segmenter)
    worker = SessionWorker(inbound, outbound, context.new_pipeline(stream, segmenter, vad), config, telemetry)

    def work() -> None:
        try:
            worker.run()
        finally:
            inbound.end_turn()

    return Bridge(inbound, outbound, WorkerThread(f"stt-{telemetry.connection_id}", work))
