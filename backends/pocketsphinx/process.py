"""One decoder process, as its owner sees it: strict request and answer over a socket pair."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from protocol.pcm import BYTES_PER_SAMPLE, SAMPLE_RATE

SCRIPT = Path(__file__).with_name("worker.py")

START_SECONDS = 60.0
"""Longest wait for a process to be warm; it takes 0.5 s a decoder on an idle core."""

HANG_SECONDS = 10.0
"""Longest wait for an answer, beside `PATIENCE`: a process that hangs is lost, but never closes its socket."""

PATIENCE = 5.0
"""Longest wait for an answer in seconds for each second of audio, which takes 0.12 s of a core."""

STARVED = 10
"""How many times as long to wait for a process that has work and gets no core: the nice ones can be starved for long.

Not for ever, for one that runs in a circle looks the same.
"""

TRANSFER_SECONDS = 30.0
"""Longest wait for a process to go on reading or writing a message."""

LOOK_SECONDS = 0.25
"""Between two calls of `meanwhile`; costs microseconds."""

TUNABLES = "GLIBC_TUNABLES"
HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Has glibc (2.35 or later; others do not know it) ask for pages of 2 MiB where the system leaves it to programs.

A pass wanders over 90 MB of model and search, whose 4 KiB pages a processor cannot remember: with large ones a
streaming pass takes 0.87 to 0.94 of the CPU and a final pass 0.90 to 1.00, for 5 MB of memory more a decoder.
"""

Request = tuple[Any, ...]
Answer = tuple[Any, ...]


class WorkerDied(Exception):
    """The process ended, or could not decode and is about to end; the text says how, for the log."""


class WorkerProcess:
    """A child process with warm decoders. One thread owns it; only `kill` and `pid` are for other threads too."""

    def __init__(self, decoders: int, niceness: int) -> None:
        """Start it; `wait_ready` says when it is warm.

        Args:
            decoders: how many it keeps warm.
            niceness: what it adds to this process's niceness once it is warm.

        Raises:
            WorkerDied: the system refused.
        """
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise WorkerDied(f"no socket for it: {error}") from error
        with theirs:
            # -P: the script's folder stays out of the path, where its siblings would hide packages of their names.
            command = [sys.executable, "-P", str(SCRIPT), str(theirs.fileno()), str(decoders), str(niceness)]
            try:
                self._process = subprocess.Popen(  # noqa: S603 - nothing in the command comes from outside
                    command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment()
                )
            except OSError as error:
                ours.close()
                raise WorkerDied(f"cannot run {sys.executable}: {error}") from error
        # Seconds and microseconds. `poll` does not help with a message that does not fit in the buffer.
        limit = struct.pack("ll", int(TRANSFER_SECONDS), int(TRANSFER_SECONDS % 1 * 1e6))
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        # The child alone holds the other end now, so its death is our end of file and ours is its.
        self._connection = Connection(ours.detach())
        self.killed = False
        """Whether `kill` ended it, unless it was dead before."""

    @property
    def pid(self) -> int:
        """Process id; any thread."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Wait until its decoders are warm.

        Raises:
            WorkerDied: it ended first, or took longer than `START_SECONDS`.
        """
        if not self._connection.poll(START_SECONDS):
            self._process.kill()
            raise WorkerDied(f"not ready after {START_SECONDS:.0f} s")
        self._receive()

    def ask(self, request: Request, meanwhile: Callable[[], None]) -> Answer:
        """Send a request (see worker.py) and wait for its answer.

        Args:
            request: its last item is PCM16LE.
            meanwhile: called every `LOOK_SECONDS` while the answer is not there.

        Raises:
            WorkerDied: there will be none; a process that took too long is killed.
        """
        try:
            self._connection.send(request)
        except OSError:
            raise self._death() from None
        limit = HANG_SECONDS + PATIENCE * len(request[-1]) / (SAMPLE_RATE * BYTES_PER_SAMPLE)
        began = time.monotonic()
        while not self._connection.poll(LOOK_SECONDS):
            waited = time.monotonic() - began
            if waited > limit and (waited > STARVED * limit or not self._has_work()):
                self._process.kill()
                raise WorkerDied(f"no answer within {waited:.1f} s")
            meanwhile()
        return self._receive()

    def alive(self) -> bool:
        """Whether it still runs and was not killed, as far as the system knows."""
        return not self.killed and self._process.poll() is None

    def kill(self) -> None:
        """End it at once, which loses nothing: all it holds is held here too. Any thread; harmless when it is dead.

        An owner within `ask` gets its WorkerDied.
        """
        self.killed = True
        self._process.kill()

    def close(self) -> None:
        """End it, reap it, close the socket; idempotent."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _has_work(self) -> bool:
        """Whether it runs, or would on a free core or when a page is read; False where there is no /proc."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return status.rpartition(")")[2].split()[0] in "RD"

    def _receive(self) -> Answer:
        try:
            outcome, answer = self._connection.recv()
        except (EOFError, OSError):
            raise self._death() from None
        if outcome != "ok":
            raise WorkerDied(str(answer))
        return tuple(answer)

    def _death(self) -> WorkerDied:
        # It closed its socket, so it is dead or dying, or it does not read or write on and is to die.
        try:
            status = self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        return WorkerDied(f"signal {-status}" if status < 0 else f"exit status {status}")


def environment() -> dict[str, str]:
    """That of a worker process: this one's with `HUGE_PAGES`, unless whoever started it has tunables of their own."""
    return {TUNABLES: HUGE_PAGES, **os.environ}
