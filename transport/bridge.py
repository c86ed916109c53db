"""The two queues of a connection and its worker thread, between the receive and send loops and the engine."""

from __future__ import annotations

import asyncio
import contextlib
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
from transport.inbound_queue import InboundQueue
from transport.outbound_queue import OutboundQueue
from transport.stall_watch import StallWatch


class WorkerThread:
    """The thread of one connection. Its end can be awaited. Used on the event loop."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        """Start the thread, which runs `work`."""
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[BaseException | None] = self._loop.create_future()
        """Resolved when the thread ends: None, or the exception that `work` raised."""
        # A daemon thread, so that a second signal can end the process while an engine hangs.
        threading.Thread(target=self._run, args=(work,), name=name, daemon=True).start()

    def _run(self, work: Callable[[], None]) -> None:
        failure: BaseException | None = None
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the connection, which logs it and closes with 1011
            failure = error
        # A closed loop means that the process ends, and nothing waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.ended.set_result, failure)


@dataclass(frozen=True, slots=True)
class Bridge:
    """The queues and the thread of one session. Used on the event loop."""

    inbound: InboundQueue
    outbound: OutboundQueue
    thread: WorkerThread
    stall_watch: StallWatch

    def conclude(self, reason: Reason) -> None:
        """Process what is queued, then end the open utterance with `reason`; all finals are sent."""
        self.stall_watch.end()
        self.inbound.end(drain=True, reason=reason)

    def cancel(self, *, at_once: bool) -> None:
        """Drop what is not processed. Unless `at_once`, what is queued for the client is still sent."""
        self.stall_watch.end()
        self.inbound.end(drain=False)
        self.outbound.end(at_once=at_once)


def open_bridge(
    context: AppContext, options: SessionOptions, telemetry: ConnectionTelemetry, ping: Callable[[bytes], None]
) -> Bridge:
    """Build a session's queues and pipelines, and start its worker thread. `ping` sends a ping with a payload."""
    stall_watch = StallWatch(ping, options.frame_ms)
    inbound = InboundQueue(context.queues, telemetry, context.scheduler, stall_watch.watch, options.channels)
    outbound = OutboundQueue(context.queues, telemetry)
    stream = StreamOptions(
        primary_subtag(options.language),
        options.hotwords,
        options.context,
        words=options.words,
        partial_ms=options.partial_ms,
        notify=inbound.wake,
    )
    segmenter = replace(context.segmenter, endpointing=options.endpointing)
    if options.silence_ms is not None:
        segmenter = replace(segmenter, silence_ms=options.silence_ms)
    vad = context.vad if options.vad_threshold is None else replace(context.vad, threshold=options.vad_threshold)
    config = SessionConfig(options.language, stream, segmenter, options.every_turn)
    pipelines = [context.new_pipeline(stream, segmenter, vad, levels=options.levels) for _ in range(options.channels)]
    worker = SessionWorker(inbound, outbound, pipelines, config, telemetry)
    return Bridge(inbound, outbound, WorkerThread(f"stt-{telemetry.connection_id}", worker.run), stall_watch)
