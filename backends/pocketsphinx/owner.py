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
from backends.pocketsphinx.process import Request, WorkerDied, WorkerProcess

FAILING_STARTS = 3
"""Starts that fail in a row before the worker counts as failing: one may be a moment short of memory."""

FIRST_DELAY_SECONDS = 0.1
"""After a start that failed; twice as long after each more."""

LONGEST_DELAY_SECONDS = 5.0
"""Also after an exception that nobody expected."""

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
    """Whether its processes start with the engine, or when there is work for one more."""


class Owner(Generic[Task]):
    """One worker of the engine: a thread with its process. Methods are for any thread."""

    def __init__(self, desk: Desk[Task], kind: Kind, on_failing: Callable[[], None]) -> None:
        """Prepare a worker; `start` starts it.

        Args:
            desk: where its jobs are.
            kind: what it is.
            on_failing: called by the owner's thread whenever `failing` is true after another failure.
        """
        self.hired = kind.eager
        """Whether it has a process or should have one; others are neither well nor failing."""
        self.failing = False
        """Whether the process died and cannot be replaced, or this thread failed; tried again all the time."""
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
        try:
            self._thread.start()
        except RuntimeError as error:
            self._never_ready(error)

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
                while not self._worked():
                    self._stopping.wait(LONGEST_DELAY_SECONDS)
        finally:
            if self._process is not None:
                self._process.close()

    def _start_first(self) -> bool:
        try:
            if self._kind.eager:
                self._spawn()
        except Exception as error:  # noqa: BLE001 - whoever waits for `ready` gets it
            self._never_ready("closed while it started" if self._stopping.is_set() else error)
            return False
        self.ready.set_result(None)
        return True

    def _never_ready(self, reason: Exception | str) -> None:
        self.ready.set_exception(EngineError(f"a {self._kind.name} worker process did not start: {reason}"))

    def _worked(self) -> bool:
        """Work until the desk closes; return False after an exception that has no other place."""
        try:
            self._work()
        except Exception:  # noqa: BLE001 - a thread that dies would keep its process, its jobs and its failure secret
            structlog.get_logger().exception("engine_owner_failed", kind=self._kind.name)
            self.failing = True
            # Whatever state it is in: the next try begins with another.
            if self._process is not None:
                self._process.kill()
            self._on_failing()
            return False
        return True

    def _work(self) -> None:
        self.hired = self.hired or self._desk.hire()
        # A process that died idle is missed before its next job.
        while (process := self._living()) is not None and self._desk.wait(LOOK_SECONDS):
            if not process.alive():
                self._desk.decline()
                continue
            taken = self._desk.take(process.kill)
            if taken is not None:
                self._do(process, *taken)

    def _living(self) -> WorkerProcess | None:
        """Return the process, or a new one if it is not there or died; None when the engine closes."""
        process = self._process
        if process is not None and process.alive():
            return process
        if process is not None and not self._stopping.is_set():
            self._log_death(process, "while idle")
        return self._replace() if self.hired else None

    def _do(self, process: WorkerProcess, task: Task, request: Request) -> None:
        try:
            self._desk.deliver(task, process.ask(request, self._desk.look))
        except WorkerDied as death:
            self._bury(process, task, str(death))
        except Exception as error:  # noqa: BLE001 - it is logged, and its job is not lost
            # An answer that makes no sense, or a defect on this side: a job that meets it again is given up in time.
            structlog.get_logger().exception("engine_job_failed", kind=self._kind.name)
            self._bury(process, task, repr(error))

    def _bury(self, process: WorkerProcess, task: Task, reason: str) -> None:
        if self._stopping.is_set():
            return
        self._log_death(process, f"{reason}, in {task}")
        self._desk.died(task)
        self._replace()

    def _log_death(self, process: WorkerProcess, error: str) -> None:
        log = structlog.get_logger()
        if process.killed:
            log.info("engine_worker_stopped", kind=self._kind.name, pid=process.pid, reason=error)
        else:
            log.warning("engine_worker_died", kind=self._kind.name, pid=process.pid, error=error)

    def _replace(self) -> WorkerProcess | None:
        """Start a process until one starts; return None when the engine closes."""
        failures, delay = 0, FIRST_DELAY_SECONDS
        while not self._stopping.is_set():
            try:
                process = self._spawn()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next try may be luckier
                if self._stopping.is_set():
                    break
                failures += 1
                structlog.get_logger().error(
                    "engine_worker_not_started", kind=self._kind.name, failures=failures, error=str(error)
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
