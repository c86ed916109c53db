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

MAX_LATE_MS = 20.0  # the generator was the limit if the p99 of its delay is above this
MAX_CPU = 0.9  # the generator was the limit if it used more than this part of a core


@dataclass(frozen=True, slots=True)
class GeneratorLoad:
    """The load of the generator itself during a run."""

    late_p99_ms: float | None  # 99th percentile of the delay between the planned and the real time of a message
    cpu: float  # part of a core that the generator used
    was_the_limit: bool  # whether the measurement shows the generator and not the server


class PacedSender:
    """Sends one frame for each client every 20 ms, each client at its own time within them, from a thread of its own.

    Timers of an event loop have a resolution of 1 ms. With hundreds of streams their frames would reach the server in
    bursts, and bursts cost a server less than independent clients do.
    """

    def __init__(self, clients: Sequence[StreamClient], seed: int, speed: float = 1.0) -> None:
        """`seed` is for the times within 20 ms. A `speed` of 2 is twice as fast as live."""
        self.clients = clients
        self._frame_seconds = FRAME_MS / 1000 / speed
        generator = random.Random(seed)  # noqa: S311 - reproducible, not secret
        offsets = sorted(generator.uniform(0, self._frame_seconds) for _ in clients)
        self._schedule = list(zip(offsets, clients, strict=True))
        """Pairs of a client and its offset within a frame, in seconds."""
        self._delays = array("d")
        self._stopped = False
        self._start, self._start_cpu = time.monotonic(), time.process_time()

    def run(self) -> None:
        """Send until all clients are exhausted or `stop` is called. This runs in a thread of its own."""
        frames, start = 0, time.monotonic()
        while not self._stopped:
            for offset, client in self._schedule:
                due = start + frames * self._frame_seconds + offset
                wait = due - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                self._delays.append(time.monotonic() - due)
                client.send_next()
            frames += 1
            if frames % 5 == 0 and all(client.exhausted for client in self.clients):
                return

    def stop(self) -> None:
        """End `run`. Any thread may call this."""
        self._stopped = True

    def frames_sent(self) -> int:
        """Return the number of frames that all clients have sent."""
        return sum(len(client.sent) for client in self.clients)

    def load(self) -> GeneratorLoad:
        """Return the load of the generator since it was created."""
        delay = percentile([seconds * 1000 for seconds in self._delays], 99)
        cpu = (time.process_time() - self._start_cpu) / max(time.monotonic() - self._start, 1e-9)
        was_the_limit = cpu > MAX_CPU or delay is None or delay > MAX_LATE_MS
        return GeneratorLoad(rounded(delay), round(cpu, 3), was_the_limit)


@asynccontextmanager
async def sending(sender: PacedSender) -> AsyncIterator[asyncio.Task[None]]:
    """Run the sender's thread while the context lasts. The task is done when all frames are sent."""
    task = asyncio.create_task(asyncio.to_thread(sender.run), name="paced sender")
    try:
        yield task
    finally:
        sender.stop()
        await task
