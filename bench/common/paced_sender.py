"""Sends the audio of all clients at the pace of live speech, and measures whether the generator itself was late."""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.common.stats import percentile, rounded
from bench.common.websocket_client import StreamClient
from protocol.pcm import FRAME_MS

MAX_LATE_MS = 20.0  # the generator was the limit if the p99 of its lateness is above this
MAX_CPU = 0.9  # ... or its part of one core above this


@dataclass(frozen=True, slots=True)
class GeneratorLoad:
    """How hard the generator worked in a window."""

    late_p99_ms: float | None  # 99th percentile of the delay between the planned and the real time of a message
    cpu: float  # part of one core
    was_the_limit: bool  # whether the measurement shows the generator and not the server


class PacedSender:
    """Sends one frame for each client every 20 ms, each client at its own time within them, from a thread of its own.

    Timers of an event loop have a resolution of 1 ms. With hundreds of streams their frames would reach the server in
    bursts, and bursts cost a server less than independent clients do.
    """

    def __init__(self, clients: Sequence[StreamClient], seed: int, speed: float = 1.0) -> None:
        """`seed`: of the times within 20 ms; `speed`: 2 is twice as fast as live."""
        self.clients = clients
        self._frame_seconds = FRAME_MS / 1000 / speed
        generator = random.Random(seed)  # noqa: S311 - reproducible, not secret
        offsets = sorted(generator.uniform(0, self._frame_seconds) for _ in clients)
        self._schedule = list(zip(offsets, clients, strict=True))
        """Offset within a frame in seconds, and the client that sends then."""
        self._late = array("d")
        self._stopped = False
        self._began, self._cpu = time.monotonic(), time.process_time()

    def run(self) -> None:
        """Send until all clients are exhausted or `stop` is called; the body of a thread."""
        frames, began = 0, time.monotonic()
        while not self._stopped:
            for offset, client in self._schedule:
                due = began + frames * self._frame_seconds + offset
                wait = due - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                self._late.append(time.monotonic() - due)
                client.send_next()
            frames += 1
            if frames % 5 == 0 and all(client.exhausted for client in self.clients):
                return

    def stop(self) -> None:
        """End `run`; any thread."""
        self._stopped = True

    def frames_sent(self) -> int:
        """Frames sent so far by all clients."""
        return sum(len(client.sent) for client in self.clients)

    def load(self) -> GeneratorLoad:
        """How hard the generator has worked since it was made."""
        late = percentile([seconds * 1000 for seconds in self._late], 99)
        cpu = (time.process_time() - self._cpu) / max(time.monotonic() - self._began, 1e-9)
        limit = cpu > MAX_CPU or late is None or late > MAX_LATE_MS
        return GeneratorLoad(rounded(late), round(cpu, 3), limit)


@asynccontextmanager
async def sending(sender: PacedSender) -> AsyncIterator[asyncio.Task[None]]:
    """The sender's thread runs while the context lasts; the task is done when all frames are sent."""
    task = asyncio.create_task(asyncio.to_thread(sender.run), name="paced sender")
    try:
        yield task
    finally:
        sender.stop()
        await task
