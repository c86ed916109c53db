"""The owner of a pocketsphinx worker when what should not happen does, and the process at its edge."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends.base import EngineError
from backends.pocketsphinx import owner, process
from backends.pocketsphinx.owner import Kind, Owner
from backends.pocketsphinx.process import Answer, Request, WorkerDied, WorkerProcess

DEADLINE = 20.0
KIND = Kind("final", decoders=1, niceness=0, eager=True)


def nothing() -> None:
    pass


class Child:
    """Plays a `WorkerProcess`."""

    pid = 1
    born = 0

    def __init__(self, *_: int) -> None:
        type(self).born += 1
        self.killed = False

    def wait_ready(self) -> None:
        pass

    def ask(self, request: Request, meanwhile: Callable[[], None]) -> Answer:
        meanwhile()
        return request

    def alive(self) -> bool:
        return not self.killed

    def kill(self) -> None:
        self.killed = True

    def close(self) -> None:
        self.killed = True


class Table:
    """A `Desk` with jobs from a list; `take` may have an accident first."""

    def __init__(self, jobs: list[str]) -> None:
        self.jobs = jobs
        self.events: list[str] = []
        self.accidents = 0
        self.looks = 0
        self.closed = threading.Event()

    def hire(self) -> bool:
        return not self.closed.is_set()

    def wait(self, timeout: float | None) -> bool:
        if not self.jobs:
            self.closed.wait(min(timeout or 0.01, 0.01))
        return not self.closed.is_set()

    def take(self, kill: Callable[[], None]) -> tuple[str, Request] | None:
        if self.accidents:
            self.accidents -= 1
            raise KeyError("an accident")
        return (self.jobs.pop(0), ("decode", b"")) if self.jobs else None

    def look(self) -> None:
        self.looks += 1

    def deliver(self, task: str, answer: Answer) -> None:
        self.events.append(f"{task} done")

    def decline(self) -> None:
        self.events.append("declined")

    def died(self, task: str) -> None:
        self.events.append(f"{task} died")

    def renewed(self) -> None:
        self.events.append("renewed")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def employ(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 - a generator of a factory
    employed: list[tuple[Owner[str], Table]] = []
    monkeypatch.setattr(owner, "LONGEST_DELAY_SECONDS", 0.2)

    def make(table: Table, child: type[Child], on_failing: Callable[[], None] = lambda: None) -> Owner[str]:
        monkeypatch.setattr(owner, "WorkerProcess", child)
        worker = Owner(table, KIND, on_failing)
        employed.append((worker, table))
        worker.start()
        return worker

    yield make
    for worker, table in employed:
        table.closed.set()
        worker.stop()
        worker.join()


class Fussy(Child):
    """Does not understand its first job."""

    born = 0

    def ask(self, request: Request, meanwhile: Callable[[], None]) -> Answer:
        if type(self).born == 1:
            raise ValueError("not enough values to unpack")
        return super().ask(request, meanwhile)


def test_an_unexpected_exception_in_a_job_counts_as_a_death(employ: Any) -> None:  # noqa: ANN401
    table = Table(["a", "b"])
    worker = employ(table, Fussy)
    until(lambda: "b done" in table.events)

    assert table.events == ["a died", "renewed", "b done"]
    assert Fussy.born == 2
    assert worker.failing is False


class Unlucky(Child):
    born = 0

    def __init__(self, *arguments: int) -> None:
        super().__init__(*arguments)
        raise MemoryError("none")


def test_an_unexpected_exception_at_the_start_is_what_ready_says(employ: Any) -> None:  # noqa: ANN401
    worker = employ(Table([]), Unlucky)

    with pytest.raises(EngineError, match="did not start: none"):
        worker.ready.result(DEADLINE)


def test_a_thread_that_cannot_be_started_is_what_ready_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    worker = Owner(Table([]), KIND, lambda: None)
    with monkeypatch.context() as context:
        context.setattr(threading.Thread, "start", refuse)
        worker.start()

    with pytest.raises(EngineError, match="can't start new thread"):
        worker.ready.result(0)
    worker.stop()
    worker.join()


class Sound(Child):
    born = 0


def test_an_owner_survives_an_accident_at_its_desk_and_says_so_meanwhile(employ: Any) -> None:  # noqa: ANN401
    failures: list[str] = []
    table = Table(["a"])
    table.accidents = 2
    worker = employ(table, Sound, lambda: failures.append("failing"))
    worker.ready.result(DEADLINE)
    until(lambda: "a done" in table.events)

    assert failures == ["failing", "failing"]
    assert worker.failing is False
    assert Sound.born == 3


# The process


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("HANG_SECONDS", "TRANSFER_SECONDS"):
        monkeypatch.setattr(process, limit, 0.3)


SPIN = """
import time
def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
"""

ECHO = """
import sys
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
connection.send(("ok", ()))
while True:
    connection.send(("ok", (len(connection.recv()[-1]),)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
@pytest.mark.parametrize("samples", [100, 1_000_000])
def test_a_process_that_hangs_counts_as_dead(
    impatient: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, samples: int
) -> None:
    """Whether the request fits in the socket's buffer or not."""
    script = tmp_path / "echo.py"
    script.write_text(ECHO)
    monkeypatch.setattr(process, "SCRIPT", script)
    child = WorkerProcess(1, 0)
    try:
        child.wait_ready()
        assert child.ask(("decode", bytes(2 * samples)), nothing) == (2 * samples,)
        os.kill(child.pid, signal.SIGSTOP)
        monkeypatch.setattr(process, "PATIENCE", 0.001)
        began = time.monotonic()
        with pytest.raises(WorkerDied):
            child.ask(("decode", bytes(2 * samples)), nothing)
        assert time.monotonic() - began < 5
    finally:
        child.close()


@pytest.mark.parametrize(
    ("does", "seconds_of_audio", "lives"),
    [("time.sleep(0.9)", 0, False), ("time.sleep(0.9)", 1, True), ("spin(0.9)", 0, True), ("spin(60)", 0, False)],
)
@pytest.mark.usefixtures("impatient")
def test_a_process_without_an_answer_is_given_time_for_its_audio_and_while_it_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, does: str, seconds_of_audio: int, lives: bool
) -> None:
    script = tmp_path / "echo.py"
    script.write_text(SPIN + ECHO.replace("    connection.send", f"    {does}; connection.send"))
    monkeypatch.setattr(process, "SCRIPT", script)
    child = WorkerProcess(1, 0)
    request = ("decode", bytes(32_000 * seconds_of_audio))
    looks: list[float] = []
    try:
        child.wait_ready()
        if lives:
            assert child.ask(request, lambda: looks.append(time.monotonic())) == (len(request[1]),)
            assert looks
        else:
            with pytest.raises(WorkerDied, match="no answer within"):
                child.ask(request, nothing)
    finally:
        child.close()


@pytest.mark.parametrize(("given", "seen"), [(None, process.HUGE_PAGES), ("a.b=1", "a.b=1")])
def test_a_process_asks_for_large_pages_unless_it_was_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str | None, seen: str
) -> None:
    script = tmp_path / "echo.py"
    script.write_text("import os" + ECHO.replace("recv()[-1]", "recv() and os.environ['GLIBC_TUNABLES']"))
    monkeypatch.setattr(process, "SCRIPT", script)
    monkeypatch.delenv(process.TUNABLES, raising=False)
    if given is not None:
        monkeypatch.setenv(process.TUNABLES, given)
    child = WorkerProcess(1, 0)
    try:
        child.wait_ready()
        assert child.ask(("decode", b""), nothing) == (len(seen),)
    finally:
        child.close()
