"""The thread that owns a worker process: it fetches jobs, hands in answers, and replaces the process when it dies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic

import structlog

from backends.base import EngineError
from backends.pocketsphinx.desk import Desk, Task
from backends.pocketsphinx.process import WorkerDied, WorkerProcess

FAILING_STARTS = 3
"""Starts that fail in a row before the worker counts as failing: one may be a moment short of memory."""

FIRST_DELAY_SECONDS = 0.1
"""After a start that failed; twice as long after each more."""

LONGEST_DELAY_SECONDS = 5.0


LOOK_SECONDS = 1.0
"""Between two looks at an idle process; costs microseconds."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What the workers of one kind have in common."""

    name: str
    decoders: int
    """Warm in each process."""
    niceness: int
    """Above the server's own."""
    eager: bool
    """Whether its processes start with the engine, or with their first job."""


class Owner(Generic[Task]):
    """One worker of the engine: a thread with its process. Methods are for any thread."""

    def __init__(self, desk: Desk[Task], kind: Kind, on_failing: Callable[[], None]) -> None:
        """Prepare a worker; `start` starts it.

        Args:
            desk: where its jobs are.
            kind: what it is.
            on_failing: called by the owner's thread whenever `failing` is true after another start that failed.
        """
        self.failing = False
        """Whether the process died and cannot be replaced; tried again all the time."""
        self.ready: Future[None] = Future()
        """Done once started, for an eager kind with a warm process; fails with EngineError if that does not start."""
        self._desk = desk
        self._kind = kind
        self._on_failing = on_failing
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._process: WorkerProcess | None = None
        # A daemon: a server that ends by an exception must not hang here; its workers see it go and follow.
        self._thread = threading.Thread(target=self._run, name=f"pocketsphinx-{kind.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the process and, once its desk is closed, the thread."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                self._process.kill()

    def join(self) -> None:
        """Wait until thread and process are gone."""
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            if self._start_first():
                self._work()
        finally:
            if self._process is not None:
                self._process.close()

    def _start_first(self) -> bool:
        try:
            if self._kind.eager:
                self._spawn()
        except WorkerDied as death:
            reason = "closed while it started" if self._stopping.is_set() else str(death)
            self.ready.set_exception(EngineError(f"a {self._kind.name} worker process did not start: {reason}"))
            return False
        self.ready.set_result(None)
        return True

    def _work(self) -> None:
        # A process that is not there yet starts with its first job; one that died idle is missed before its next.
        while self._desk.wait(None if self._process is None else LOOK_SECONDS):
            process = self._process
            if process is None or not process.alive():
                if process is not None:
                    self._log_death(process, "while idle")
                self._desk.decline()
                process = self._replace()
                if process is None:
                    return
            taken = self._desk.take()
            if taken is None:
                continue
            task, request = taken
            try:
                answer = process.ask(request)
            except WorkerDied as death:
                self._bury(process, task, death)
            else:
                self._desk.deliver(task, answer)

    def _bury(self, process: WorkerProcess, task: Task, death: WorkerDied) -> None:
        if self._stopping.is_set():
            return
        self._log_death(process, f"{death}, in {task}")
        self._desk.died(task)
        self._replace()

    def _log_death(self, process: WorkerProcess, error: str) -> None:
        structlog.get_logger().warning("engine_worker_died", kind=self._kind.name, pid=process.pid, error=error)

    def _replace(self) -> WorkerProcess | None:
        """Start a process until one starts; return None when the engine closes."""
        failures, delay = 0, FIRST_DELAY_SECONDS
        while not self._stopping.is_set():
            try:
                process = self._spawn()
            except WorkerDied as death:
                if self._stopping.is_set():
                    break
                failures += 1
                structlog.get_logger().error(
                    "engine_worker_not_started", kind=self._kind.name, failures=failures, error=str(death)
                )
                self.failing = failures >= FAILING_STARTS
                if self.failing:
                    self._on_failing()
                self._stopping.wait(delay)
                delay = min(2 * delay, LONGEST_DELAY_SECONDS)
            else:
                self.failing = False
                self._desk.renewed()
                structlog.get_logger().info("engine_worker_started", kind=self._kind.name, pid=process.pid)
                return process
        return None

    def _spawn(self) -> WorkerProcess:
        if self._process is not None:
            self._process.close()
        process = WorkerProcess(self._kind.decoders, self._kind.niceness)
        with self._lock:
            self._process = process
            # `stop` found no process to kill, or the one before.
            if self._stopping.is_set():
                process.kill()
        process.wait_ready()
        return process
