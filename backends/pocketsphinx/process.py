"""One decoder process, as its owner sees it: strict request and answer over a socket pair."""

from __future__ import annotations

import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("worker.py")

START_SECONDS = 60.0
"""Longest wait for a process to be warm; it takes 0.5 s a decoder on an idle core."""

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
                    command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
                )
            except OSError as error:
                ours.close()
                raise WorkerDied(f"cannot run {sys.executable}: {error}") from error
        # The child alone holds the other end now, so its death is our end of file and ours is its.
        self._connection = Connection(ours.detach())

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
            self.kill()
            raise WorkerDied(f"not ready after {START_SECONDS:.0f} s")
        self._receive()

    def ask(self, request: Request) -> Answer:
        """Send a request (see worker.py) and wait for its answer.

        Raises:
            WorkerDied: there will be none.
        """
        try:
            self._connection.send(request)
        except OSError:
            raise self._death() from None
        return self._receive()

    def alive(self) -> bool:
        """Whether it still runs, as far as the system knows."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it at once, which loses nothing: all it holds is held here too. Any thread; harmless when it is dead.

        An owner within `ask` gets its WorkerDied.
        """
        self._process.kill()

    def close(self) -> None:
        """End it, reap it, close the socket; idempotent."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _receive(self) -> Answer:
        try:
            outcome, answer = self._connection.recv()
        except (EOFError, OSError):
            raise self._death() from None
        if outcome != "ok":
            raise WorkerDied(str(answer))
        return tuple(answer)

    def _death(self) -> WorkerDied:
        # It closed its socket, so it is dead or dying; the kill keeps the wait short if it is stopped.
        try:
            status = self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        return WorkerDied(f"signal {-status}" if status < 0 else f"exit status {status}")
