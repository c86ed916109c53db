"""Delays of a server whose cores are kept busy by other processes, next to another version of it (--against).

One process spins on each core, and the server may use all cores. Server and spinning processes have the same niceness.
The generator has a better one, so that its own lateness is not measured. The columns are those of `overhead`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.common.report import parser
from bench.load.server_comparison import Target, add_arguments, compare

NICENESS = 5
_SPIN = "import os\nos.sched_setaffinity(0, [{core}])\nos.nice({niceness})\nwhile os.getppid() == {parent}: pass"


@contextmanager
def busy_cores(cores: Sequence[int]) -> Iterator[None]:
    """One process spins on each of `cores` until the context, or this process, ends."""
    with ExitStack() as stack:
        for core in cores:
            code = _SPIN.format(core=core, niceness=NICENESS, parent=os.getpid())
            process = subprocess.Popen([sys.executable, "-c", code])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    made = parser("load contended", __doc__)
    add_arguments(made, [20, 100, 150, 200], rounds=2, seconds=6.0)
    made.add_argument("--against", type=Path, metavar="DIR", help="checkout of another version, to compare with")
    cores = sorted(os.sched_getaffinity(0))
    made.add_argument("--busy", type=int, default=len(cores), help="number of busy cores (all)")
    given = made.parse_args(arguments)
    before = [Target("before", root=given.against)] if given.against else []
    with busy_cores(cores[: given.busy]):
        compare("load contended", [*before, Target("server")], given, cores, niceness=NICENESS)
