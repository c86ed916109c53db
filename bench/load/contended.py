"""Delays of a server whose cores are kept busy by other processes, compared with another version (--against).

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

from bench.common.report import argument_parser
from bench.load.server_comparison import Target, add_arguments, compare

NICENESS = 5
_SPIN = "import os\nos.sched_setaffinity(0, [{core}])\nos.nice({niceness})\nwhile os.getppid() == {parent}: pass"


@contextmanager
def busy_cores(cores: Sequence[int]) -> Iterator[None]:
    """Run a busy process on each of `cores` until the context, or this process, ends."""
    with ExitStack() as stack:
        for core in cores:
            code = _SPIN.format(core=core, niceness=NICENESS, parent=os.getpid())
            process = subprocess.Popen([sys.executable, "-c", code])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def main(argv: Sequence[str]) -> None:
    """Run the command."""
    parser = argument_parser("load contended", __doc__)
    add_arguments(parser, [20, 100, 150, 200], rounds=2, seconds=6.0)
    parser.add_argument("--against", type=Path, metavar="DIR", help="checkout of another version, to compare with")
    cores = sorted(os.sched_getaffinity(0))
    parser.add_argument("--busy", type=int, default=len(cores), help="number of busy cores (all)")
    args = parser.parse_args(argv)
    before = [Target("before", root=args.against)] if args.against else []
    with busy_cores(cores[: args.busy]):
        compare("load contended", [*before, Target("server")], args, cores, niceness=NICENESS)
