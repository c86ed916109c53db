"""Processes: ending those that tests start, and seeing others in Linux's /proc. Where there is none, none is seen."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import AnyStr

from tests.patience import PATIENCE_SECONDS


@contextlib.contextmanager
def ending(process: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """The process; when the context ends it is terminated, and killed if it still runs after PATIENCE_SECONDS.

    `Popen` alone would wait for it for ever, and pytest-timeout interrupts a test only once.
    """
    with process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_SECONDS)
            finally:
                process.kill()


def children_of(parent: int) -> set[int]:
    """Child processes, zombies too, whichever thread started them."""
    found: set[int] = set()
    for listed in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread or process that ended just now
            found |= set(map(int, listed.read_text().split()))
    return found


def descendants(ancestor: int) -> set[int]:
    """All processes below one, however they were started."""
    found = generation = children_of(ancestor)
    while generation := set().union(*map(children_of, generation)):
        found |= generation
    return found


def runs(pid: int) -> bool:
    """Whether it runs; one that ended may still wait for somebody to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def command_of(pid: int) -> bytes:
    """How it was started; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def runnable_seconds() -> float:
    """Seconds in which this thread ran or waited for a core, since it began (Linux's schedstat); 0 elsewhere."""
    try:
        ran, waited, _ = Path("/proc/thread-self/schedstat").read_text().split()
    except OSError:
        return 0.0
    return (int(ran) + int(waited)) / 1e9
