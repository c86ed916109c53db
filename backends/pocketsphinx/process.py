"""One decoder process, as its owner sees it: strict request and answer over a socket pair."""

from __future__ import annotations

import socket
import struct
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from backends.pocketsphinx.template import Template, TemplateGone
from protocol.pcm import BYTES_PER_SAMPLE, SAMPLE_RATE

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

Request = tuple[Any, ...]
Answer = tuple[Any, ...]


class WorkerDied(Exception):
    """The process ended, or could not decode and is about to end; the text says how, for the log."""


class WorkerProcess:
    """A worker with a warm decoder. One thread owns it; only `kill` and `pid` are for other threads too."""

    def __init__(self, template: Template, niceness: int) -> None:
        """Start it, which takes milliseconds.

        Args:
            template: forks it.
            niceness: what it adds to this process's niceness.

        Raises:
            TemplateGone: none was started.
            OSError: the system refused a socket.
        """
        self._template = template
        ours, theirs = socket.socketpair()
        # The worker alone holds the other end then, so its death is our end of file and ours is its.
        with theirs:
            try:
                self.pid = template.fork(theirs, niceness)
            except TemplateGone:
                ours.close()
                raise
        # Seconds and microseconds. `poll` does not help with a message that does not fit in the buffer.
        limit = struct.pack("ll", int(TRANSFER_SECONDS), int(TRANSFER_SECONDS % 1 * 1e6))
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._connection = Connection(ours.detach())
        self.killed = False
        """Whether `kill` ended it, unless it was dead before."""

    def ask(self, request: Request) -> Answer:
        """Send a request (see worker.py) and wait for its answer; the request's last item is PCM16LE.

        Raises:
            WorkerDied: there will be none; a process that took too long is killed.
        """
        try:
            self._connection.send(request)
        except OSError:
            raise self._death() from None
        limit = HANG_SECONDS + PATIENCE * len(request[-1]) / (SAMPLE_RATE * BYTES_PER_SAMPLE)
        began = time.monotonic()
        while not self._connection.poll(limit):
            waited = time.monotonic() - began
            if waited > STARVED * limit or not self._has_work():
                self._template.kill(self.pid)
                raise WorkerDied(f"no answer within {waited:.1f} s")
        return self._receive()

    def alive(self) -> bool:
        """Whether it still waits for requests; asked while it has none."""
        # Without a request it says nothing, so what can be read is the end of file.
        return not self.killed and not self._connection.poll(0)

    def kill(self) -> None:
        """End it at once, which loses nothing: all it holds is held here too. Any thread; harmless when it is dead.

        An owner within `ask` gets its WorkerDied.
        """
        self.killed = True
        self._template.kill(self.pid)

    def close(self) -> None:
        """End it, reap it, close the socket; idempotent."""
        self._template.end(self.pid)
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
        status = self._template.end(self.pid)
        if status is None:
            return WorkerDied("it ended with its template")
        return WorkerDied(f"signal {-status}" if status < 0 else f"exit status {status}")
