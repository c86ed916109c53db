"""The owner of a pocketsphinx worker when what should not happen does, and the process at its edge."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from backends.pocketsphinx import owner, process, template, worker
from backends.pocketsphinx.owner import Kind, Owner
from backends.pocketsphinx.process import Answer, Request, WorkerDied, WorkerProcess
from backends.pocketsphinx.template import Template, TemplateGone, Templates
from tests.processes import runs

DEADLINE = 20.0
KIND = Kind("final", niceness=0)


class Child:
    """Plays a `WorkerProcess`."""

    pid = 1
    born = 0

    def __init__(self, *_: object) -> None:
        type(self).born += 1
        self.killed = False

    def ask(self, request: Request) -> Answer:
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
        self.closed = threading.Event()

    def wait(self, timeout: float | None) -> bool:
        if not self.jobs:
            self.closed.wait(min(timeout or 0.01, 0.01))
        return not self.closed.is_set()

    def take(self, kill: Callable[[], None]) -> tuple[str, Request] | None:
        if self.accidents:
            self.accidents -= 1
            raise KeyError("an accident")
        return (self.jobs.pop(0), ("decode", b"")) if self.jobs else None

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
    templates = Templates()
    monkeypatch.setattr(templates, "living", lambda: None)
    monkeypatch.setattr(owner, "LONGEST_DELAY_SECONDS", 0.2)

    def make(table: Table, child: type[Child], on_failing: Callable[[], None] = lambda: None) -> Owner[str]:
        monkeypatch.setattr(owner, "WorkerProcess", child)
        worker = Owner(table, KIND, templates, on_failing)
        employed.append((worker, table))
        worker.start()
        return worker

    yield make
    for each, table in employed:
        table.closed.set()
        each.stop()
        each.join()


class Fussy(Child):
    """Does not understand its first job."""

    born = 0

    def ask(self, request: Request) -> Answer:
        if type(self).born == 1:
            raise ValueError("not enough values to unpack")
        return super().ask(request)


def test_an_unexpected_exception_in_a_job_counts_as_a_death(employ: Any) -> None:  # noqa: ANN401
    table = Table(["a", "b"])
    worker = employ(table, Fussy)
    until(lambda: "b done" in table.events)

    assert table.events == ["renewed", "a died", "renewed", "b done"]
    assert Fussy.born == 2
    assert worker.failing is False


class Unlucky(Child):
    born = 0

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        if type(self).born <= owner.FAILING_STARTS:
            raise MemoryError("none")


def test_an_owner_that_cannot_start_a_process_says_so_until_it_can(employ: Any) -> None:  # noqa: ANN401
    failures: list[str] = []
    table = Table(["a"])
    worker = employ(table, Unlucky, lambda: failures.append("failing"))
    until(lambda: "a done" in table.events)

    assert failures == ["failing"]
    assert worker.failing is False


class Sound(Child):
    born = 0


def test_an_owner_survives_an_accident_at_its_desk_and_says_so_meanwhile(employ: Any) -> None:  # noqa: ANN401
    failures: list[str] = []
    table = Table(["a"])
    table.accidents = 2
    worker = employ(table, Sound, lambda: failures.append("failing"))
    until(lambda: "a done" in table.events)

    assert failures == ["failing", "failing"]
    assert worker.failing is False
    assert Sound.born == 3


# The process, and the one that forks it


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("HANG_SECONDS", "TRANSFER_SECONDS"):
        monkeypatch.setattr(process, limit, 0.3)


PLAYED = """
import sys, time
sys.path.insert(0, {folder!r})
import worker
class Played:
    def warm(self):
        pass
    def answer(self, request):
        {does}
        return (len(request[-1]),)
def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
worker.Worker = Played
sys.exit(worker.main(int(sys.argv[1])))
"""
"""A template whose decoder does something else."""


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], Template]]:
    """Makes templates whose workers do this."""
    made: list[Template] = []

    def make(does: str) -> Template:
        script = tmp_path / "played.py"
        script.write_text(PLAYED.format(folder=str(Path(worker.__file__).parent), does=does))
        monkeypatch.setattr(template, "SCRIPT", script)
        made.append(Template())
        made[-1].wait_ready()
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("samples", [100, 1_000_000])
@pytest.mark.usefixtures("impatient")
def test_a_process_that_hangs_counts_as_dead(
    monkeypatch: pytest.MonkeyPatch, play: Callable[[str], Template], samples: int
) -> None:
    """Whether the request fits in the socket's buffer or not."""
    child = WorkerProcess(play("pass"), 0)
    try:
        assert child.ask(("decode", bytes(2 * samples))) == (2 * samples,)
        os.kill(child.pid, signal.SIGSTOP)
        monkeypatch.setattr(process, "PATIENCE", 0.001)
        began = time.monotonic()
        with pytest.raises(WorkerDied):
            child.ask(("decode", bytes(2 * samples)))
        assert time.monotonic() - began < 5
    finally:
        child.close()
    assert not runs(child.pid)


@pytest.mark.parametrize(
    ("does", "seconds_of_audio", "lives"),
    [("time.sleep(0.9)", 0, False), ("time.sleep(0.9)", 1, True), ("spin(0.9)", 0, True), ("spin(60)", 0, False)],
)
@pytest.mark.usefixtures("impatient")
def test_a_process_without_an_answer_is_given_time_for_its_audio_and_while_it_works(
    play: Callable[[str], Template], does: str, seconds_of_audio: int, lives: bool
) -> None:
    child = WorkerProcess(play(does), 0)
    request = ("decode", bytes(32_000 * seconds_of_audio))
    try:
        if lives:
            assert child.ask(request) == (len(request[1]),)
        else:
            with pytest.raises(WorkerDied, match="no answer within"):
                child.ask(request)
    finally:
        child.close()


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
        ("import os; os._exit(3)", "exit status 3"),
        ("raise ValueError('broken on purpose')", "(?s)Traceback.*broken on purpose"),
    ],
)
def test_a_death_says_how_it_was(play: Callable[[str], Template], does: str, reason: str) -> None:
    child = WorkerProcess(play(does), 0)
    with pytest.raises(WorkerDied, match=reason):
        child.ask(("decode", b""))
    until(lambda: not child.alive())
    child.close()
    child.close()
    child.kill()


def test_a_process_has_the_niceness_of_its_kind(play: Callable[[str], Template]) -> None:
    child = WorkerProcess(play("pass"), 3)
    child.ask(("decode", b""))

    assert os.getpriority(os.PRIO_PROCESS, child.pid) == os.getpriority(os.PRIO_PROCESS, 0) + 3


@pytest.mark.parametrize(("given", "seen"), [(None, template.HUGE_PAGES), ("a.b=1", "a.b=1")])
def test_a_process_asks_for_large_pages_unless_it_was_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, play: Callable[[str], Template], given: str | None, seen: str
) -> None:
    monkeypatch.delenv(template.TUNABLES, raising=False)
    if given is not None:
        monkeypatch.setenv(template.TUNABLES, given)
    child = WorkerProcess(play("import os; return ((os.environ['GLIBC_TUNABLES'],),)[0]"), 0)

    assert child.ask(("decode", b"")) == (seen,)


def test_closing_a_template_whose_workers_are_being_ended_leaves_none(
    capfd: pytest.CaptureFixture[str], play: Callable[[str], Template]
) -> None:
    """It ends by itself, and says nothing."""
    made = play("pass")
    busy = [WorkerProcess(made, 0) for _ in range(20)]
    with ThreadPoolExecutor(5) as owners:
        ending = [owners.submit(each.close) for each in busy]
        made.close()
        for each in ending:
            each.result(DEADLINE)

    assert made.status == 0
    assert not any(runs(each.pid) for each in busy)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("end", ["close", "SIGKILL"])
def test_no_process_outlives_its_template(play: Callable[[str], Template], end: str) -> None:
    """However that ends, and whatever they are at."""
    made = play("spin(60)")
    idle, busy = WorkerProcess(made, 0), WorkerProcess(made, 0)
    with ThreadPoolExecutor(1) as owners:
        death = owners.submit(busy.ask, ("decode", b""))
        if end == "close":
            made.close()
        else:
            os.kill(made.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="with its template"):
            death.result(DEADLINE)
    until(lambda: not idle.alive() and not runs(idle.pid) and not runs(busy.pid))
    for each in (idle, busy):
        each.kill()
        each.close()


def test_a_template_that_does_not_answer_is_ended(
    monkeypatch: pytest.MonkeyPatch, play: Callable[[str], Template]
) -> None:
    """Its late answer would be taken for another."""
    monkeypatch.setattr(template, "ANSWER_SECONDS", 0.3)
    made = play("pass")
    child = WorkerProcess(made, 0)
    os.kill(made.pid, signal.SIGSTOP)

    with pytest.raises(TemplateGone, match="no answer"):
        WorkerProcess(made, 0)
    until(lambda: made.status is not None and not runs(child.pid))


def test_all_who_wait_for_a_template_share_one_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    starts = tmp_path / "starts"
    script.write_text(f"import time; open({str(starts)!r}, 'a').write('x'); time.sleep(0.5)")
    monkeypatch.setattr(template, "SCRIPT", script)
    templates = Templates()

    def ask() -> str:
        together.wait(DEADLINE)
        with pytest.raises(TemplateGone) as refusal:
            templates.living()
        return str(refusal.value)

    together = threading.Barrier(8)
    with ThreadPoolExecutor(8) as owners:
        asked = [owners.submit(ask) for _ in range(8)]
    assert {each.result() for each in asked} == {"it ended"}
    assert starts.read_text() == "x"
    with pytest.raises(TemplateGone):
        templates.living()
    assert starts.read_text() == "xx"
