"""The thread that owns a worker process: it fetches jobs, hands in answers, and replaces the process when it dies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

import structlog

from backends.pocketsphinx.desk import Desk, Task
from backends.pocketsphinx.process import Request, WorkerDied, WorkerProcess
from backends.pocketsphinx.template import Templates

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
    niceness: int
    """Above the server's own."""


class Owner(Generic[Task]):
    """One worker of the engine: a thread with its process. Methods are for any thread."""

    def __init__(self, desk: Desk[Task], kind: Kind, templates: Templates, on_failing: Callable[[], None]) -> None:
        """Prepare a worker; `start` starts it.

        Args:
            desk: where its jobs are.
            kind: what it is.
            templates: where its processes come from.
            on_failing: called by the owner's thread whenever `failing` is true after another failure.
        """
        self.failing = False
        """Whether the process died and cannot be replaced, or this thread failed; tried again all the time."""
        self._desk = desk
        self._kind = kind
        self._templates = templates
        self._on_failing = on_failing
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._process: WorkerProcess | None = None
        # A daemon: a server that ends by an exception must not hang here; its workers see it go and follow.
        self._thread = threading.Thread(target=self._run, name=f"pocketsphinx-{kind.name}", daemon=True)

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: the system refused.
        """
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
            while not self._worked():
                self._stopping.wait(LONGEST_DELAY_SECONDS)
        finally:
            if self._process is not None:
                self._process.close()

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
        return self._replace()

    def _do(self, process: WorkerProcess, task: Task, request: Request) -> None:
        try:
            self._desk.deliver(task, process.ask(request))
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
            # As often as speakers hesitate.
            log.debug("engine_worker_stopped", kind=self._kind.name, pid=process.pid, reason=error)
        else:
            log.warning("engine_worker_died", kind=self._kind.name, pid=process.pid, error=error)

    def _replace(self) -> WorkerProcess | None:
        """Start a process until one starts; return None when the engine closes."""
        failures, delay = 0, FIRST_DELAY_SECONDS
        expected = self._process is None or self._process.killed
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
                log = structlog.get_logger()
                tell = log.debug if expected and not failures else log.info
                tell("engine_worker_started", kind=self._kind.name, pid=process.pid)
                return process
        return None

    def _spawn(self) -> WorkerProcess:
        if self._process is not None:
            self._process.close()
        process = WorkerProcess(self._templates.living(), self._kind.niceness)
        with self._lock:
            self._process = process
            # `stop` found no process to kill, or the one before.
            if self._stopping.is_set():
                process.kill()
        return process
