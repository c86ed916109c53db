"""When a qwen3 engine that fails again and again is given up."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from backends.qwen3.restart_policy import FailureHistory, RestartPolicy
from tests.patience import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]

CRASH_LOOP = """
    import itertools, sys, threading
    from backends.qwen3.backend import Qwen3Backend
    from backends.qwen3.options import Qwen3Options
    from backends.qwen3.restart_policy import RestartPolicy
    from tests.backends.qwen3_fakes import FakeModel

    starts = itertools.count(1)

    def build(_):
        if (start := next(starts)) in FAILING:
            raise RuntimeError("out of memory")
        print("start", start, flush=True)
        model = FakeModel()
        model.dead = start > 1
        return model

    backend = Qwen3Backend(Qwen3Options(), build, restart_policy=RestartPolicy(0.01, 0.01, 4, 600))
    backend.start()
    backend._engine._model.dead = True
    threading.Event().wait(3600)
"""
"""A server's engine that is ready once, then dies after each start, or does not start."""


def run_crash_loop(folder: Path, failing: set[int]) -> tuple[int, list[str]]:
    script = folder / "crash_loop.py"
    script.write_text(textwrap.dedent(CRASH_LOOP).replace("FAILING", repr(failing or {0})))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, script], check=False, capture_output=True, text=True, env=environment, timeout=PATIENCE_SECONDS
    )
    assert "engine_given_up" in ran.stdout + ran.stderr
    return ran.returncode, [line for line in ran.stdout.splitlines() if line.startswith("start")]


def test_an_engine_that_dies_again_and_again_ends_the_process(tmp_path: Path) -> None:
    """After four deaths the process ends with status 1, so that its supervisor sees a failure."""
    assert run_crash_loop(tmp_path, set()) == (1, ["start 1", "start 2", "start 3", "start 4"])


def test_an_engine_that_does_not_start_again_ends_the_process(tmp_path: Path) -> None:
    """A death and three restarts that fail end the process too."""
    assert run_crash_loop(tmp_path, {2, 3, 4}) == (1, ["start 1"])


def test_delays_double() -> None:
    """Each failure within the window doubles the delay; a good start in between does not reset it."""
    history = FailureHistory(RestartPolicy(first_delay=1, max_delay=5, max_failures=5, window_seconds=100))
    assert [history.record(now) for now in (0, 10, 20, 30, 40)] == [1, 2, 4, 5, None]


def test_old_failures_are_forgotten() -> None:
    """An engine that dies now and then is restarted for ever."""
    history = FailureHistory(RestartPolicy(first_delay=1, max_failures=2, window_seconds=100))
    assert [history.record(now) for now in (0, 101, 202, 303)] == [1, 1, 1, 1]
