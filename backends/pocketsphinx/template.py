"""The process that has the decoder loaded and forks the workers, as the server sees it: see worker.py."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import structlog

from backends.pocketsphinx.worker import ANSWER, END, FORK, KILL, ORDER, READY

SCRIPT = Path(__file__).with_name("worker.py")

START_SECONDS = 60.0
"""Longest wait for the decoder to be loaded and warm; it takes 0.6 s on an idle core."""

ANSWER_SECONDS = 5.0
"""Longest wait for a worker to be forked or ended, which takes 4 ms; then the template and all workers are replaced."""

CLOSE_SECONDS = 2.0
"""Longest wait for it to end its workers and itself; then the system ends them with it."""

TUNABLES = "GLIBC_TUNABLES"
HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Has glibc (2.35 or later; others do not know it) ask for pages of 2 MiB where the system leaves it to programs.

A pass wanders over 90 MB of model and search, whose 4 KiB pages a processor cannot remember: with large ones a
streaming pass takes 0.87 to 0.94 of the CPU and a final pass 0.90 to 1.00, for 5 MB of memory more a decoder.
"""


class TemplateGone(Exception):
    """The template process ended, or could not do what it was asked; the text says how, for the log."""


class Template:
    """One template process, until it ends; methods are for any thread.

    It owns the workers: they end when it does.
    """

    def __init__(self) -> None:
        """Start it; `wait_ready` says when it can fork.

        Raises:
            TemplateGone: the system refused.
        """
        self._asking = threading.Lock()
        """Held from an order to its answer."""
        self._sending = threading.Lock()
        """Guards what follows, and is held for no wait: `kill` never waits."""
        self._workers: set[int] = set()
        """Those that were not ended: no other process has such an id."""
        self._ready = False
        try:
            self._control, theirs = socket.socketpair()
        except OSError as error:
            raise TemplateGone(f"no socket for it: {error}") from error
        with theirs:
            # -P: the script's folder stays out of the path, where its siblings would hide packages of their names.
            command = [sys.executable, "-P", str(SCRIPT), str(theirs.fileno())]
            try:
                self._process = subprocess.Popen(  # noqa: S603 - nothing in the command comes from outside
                    command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment()
                )
            except OSError as error:
                self._control.close()
                raise TemplateGone(f"cannot run {sys.executable}: {error}") from error

    def wait_ready(self) -> None:
        """Wait until its decoder is warm.

        Raises:
            TemplateGone: it ended first, or took longer than `START_SECONDS`; it is closed.
        """
        try:
            with self._asking:
                self._control.settimeout(START_SECONDS)
                told = self._hear_out()
                self._control.settimeout(ANSWER_SECONDS)
                self._ready = told == READY
        except OSError as error:
            told = f"+not ready: {error}".encode()
        if not self._ready:
            self.close()
            raise TemplateGone(told[1:].decode(errors="replace") or "it ended")

    def _hear_out(self) -> bytes:
        """`READY`, or all it says before it ends."""
        told = b""
        while told != READY and (more := self._control.recv(65_536)):
            told += more
        return told

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, less than 0: the signal; None while it runs, as far as the system knows."""
        return self._process.poll()

    def fork(self, end: socket.socket, niceness: int) -> int:
        """Start a worker that serves one end of a socket, so much nicer than this process; return its process id.

        Raises:
            TemplateGone: none was started.
        """
        with self._asking:
            pid = self._ask(FORK, niceness, [end.fileno()])
            if pid <= 0:
                raise TemplateGone(f"it cannot fork: {os.strerror(-pid)}")
            with self._sending:
                self._workers.add(pid)
            return pid

    def kill(self, pid: int) -> None:
        """End a worker at once, and never wait; harmless for one that was ended, or with a template that is gone."""
        # The workers of one that is gone are as well.
        with self._sending, contextlib.suppress(OSError):
            if pid in self._workers:
                self._control.sendall(ORDER.pack(KILL, pid))

    def end(self, pid: int) -> int | None:
        """End and reap a worker; return its exit status, less than 0: the signal. None: nobody knows; idempotent."""
        with self._asking:
            with self._sending:
                if pid not in self._workers:
                    return None
                self._workers.remove(pid)
            try:
                return self._ask(END, pid, [])
            except TemplateGone:
                return None

    def close(self) -> None:
        """End it and its workers, and everybody's waiting for it; idempotent."""
        with self._sending:
            self._workers.clear()  # it ends them itself
        with contextlib.suppress(OSError):  # it was closed, or is gone
            self._control.shutdown(socket.SHUT_RDWR)
        if not self._ready:
            self._process.kill()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with self._asking, self._sending:
            self._control.close()

    def _ask(self, what: int, number: int, descriptors: list[int]) -> int:
        """Give an order and wait for its answer; a template that is silent is ended. Caller holds `_asking`."""
        try:
            with self._sending:
                socket.send_fds(self._control, [ORDER.pack(what, number)], descriptors)
            answer = self._control.recv(ANSWER.size)
        except TimeoutError as error:
            # Its answer, should it come after all, would be taken for that to the next order.
            self._process.kill()
            raise TemplateGone(f"no answer within {ANSWER_SECONDS:.0f} s") from error
        except OSError as error:
            raise TemplateGone(f"it ended: {error}") from error
        if len(answer) < ANSWER.size:
            raise TemplateGone("it ended")
        told: int = ANSWER.unpack(answer)[0]
        return told


class Templates:
    """The template that lives; methods are for any thread."""

    def __init__(self) -> None:
        """None is started before `living` is called."""
        self._starting = threading.Lock()
        self._state = threading.Lock()
        self._template: Template | None = None
        self._failures = 0
        self._failure = ""
        """The last."""
        self._closed = False

    def living(self) -> Template:
        """Return it, or a new one if there is none or it died: that takes the second in which a decoder loads.

        Raises:
            TemplateGone: none can be started, or `close` was called.
        """
        failures = self._failures
        with self._starting:
            if self._failures != failures:
                # All workers ask at once when a template dies: one attempt is enough for all who waited for it.
                raise TemplateGone(self._failure)
            template = self._template
            if template is None or template.status is not None:
                if template is not None:
                    structlog.get_logger().warning("engine_template_died", pid=template.pid, status=template.status)
                    template.close()
                template = self._start()
            return template

    def _start(self) -> Template:
        try:
            template = self._begun()
            template.wait_ready()
        except TemplateGone as failure:
            self._failures += 1
            self._failure = str(failure)
            raise
        return template

    def _begun(self) -> Template:
        with self._state:
            if self._closed:
                raise TemplateGone("the engine is closed")
            self._template = Template()
            return self._template

    def close(self) -> None:
        """End the template with its workers, even while it starts, and start no other; idempotent."""
        with self._state:
            self._closed = True
            template = self._template
        if template is not None:
            template.close()


def environment() -> dict[str, str]:
    """The server's, with large pages unless its own says what glibc is to do."""
    return {TUNABLES: HUGE_PAGES} | os.environ
