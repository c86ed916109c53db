"""Connections per second: connect, `ready`, close, at most 64 open at once, next to a bare WebSocket.

Each window has a fresh process on one core; the generator has another core. The bare WebSocket sends no `ready`.
cpu_ms is the server's CPU for one connection: other processes disturb it less than they disturb the rate.
ratio is the rate by that of the bare WebSocket; cpu_ratio is the CPU of the bare WebSocket by that of the server.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import uvloop

from bench.common.paced_sender import MAX_CPU
from bench.common.report import Progress, Row, conditions, parser, print_report
from bench.common.server_process import APP, ServerProcess, server_settings
from bench.common.stats import median
from bench.common.websocket_client import MAX_CONNECTING, ConnectionRefused, connect
from bench.load.turns import BARE_SOCKET, take_own_core

TARGETS = {"bare": BARE_SOCKET, "server": APP}
SERVER_BUSY = 0.9  # the server was the limit if it used at least this part of its core


@dataclass(frozen=True, slots=True)
class Window:
    """The connections of one server in one window."""

    target: str
    per_second: float
    cpu_ms: float  # of the server, for one connection
    core: float  # part of its core that the server used
    generator_cpu: float  # part of its core that the generator used
    errors: list[str]

    def problems(self) -> set[str]:
        """Reasons to doubt the rate."""
        found = {f"ERROR: {self.target}: {error}" for error in self.errors}
        if self.generator_cpu > MAX_CPU:
            found.add(f"THE GENERATOR WAS THE LIMIT: {self.target}")
        elif self.core < SERVER_BUSY:
            found.add(f"NEITHER WAS THE LIMIT: {self.target}; trust cpu_ms only")
        return found


async def connect_repeatedly(port: int, seconds: float, *, wait_for_message: bool) -> tuple[int, list[str]]:
    """Connect and close until `seconds` have passed; returns the number of connections and the errors."""
    done, errors, deadline = 0, list[str](), time.monotonic() + seconds

    async def one_after_another() -> None:
        nonlocal done
        while time.monotonic() < deadline:
            try:
                client = await connect(port, iter(()), wait_for_message=wait_for_message)
                await client.close()
                done += 1
            except (ConnectionRefused, TimeoutError, OSError) as error:
                errors.append(f"{type(error).__name__} {error}")

    await asyncio.gather(*(one_after_another() for _ in range(MAX_CONNECTING)))
    return done, errors


async def measure(server: ServerProcess, target: str, seconds: float) -> Window:
    """Measure one window after a short warm-up."""
    speaks = target == "server"
    await connect_repeatedly(server.port, 0.3, wait_for_message=speaks)
    before, own = server.usage(), time.process_time()
    done, errors = await connect_repeatedly(server.port, seconds, wait_for_message=speaks)
    spent, own = server.usage() - before, time.process_time() - own
    rates = done / spent.seconds, spent.cpu * 1000 / max(1, done), spent.cpu / spent.seconds, own / spent.seconds
    return Window(target, *rates, errors)


def summarise(windows: Sequence[Window]) -> Row:
    """The row of the table: medians over the valid windows of each target, or over all of them if none is valid."""
    valid = [each for each in windows if not each.problems()]

    def middle(name: str, target: str) -> float:
        used = [each for each in valid if each.target == target] or [each for each in windows if each.target == target]
        return median([getattr(each, name) for each in used]) or float("nan")

    rate, cost = ({each: middle(name, each) for each in TARGETS} for name in ("per_second", "cpu_ms"))
    return {
        **{f"{name}_per_second": round(value, 0) for name, value in rate.items()},
        "ratio": round(rate["server"] / rate["bare"], 2),
        **{f"{name}_cpu_ms": round(value, 2) for name, value in cost.items()},
        "cpu_ratio": round(cost["bare"] / cost["server"], 2),
        "errors": sum(len(each.errors) for each in windows),
        "valid": f"{len(valid)}/{len(windows)}",
    }


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    made = parser("load connects", __doc__)
    made.add_argument("--rounds", type=int, default=5, help="windows of each (5)")
    made.add_argument("--seconds", type=float, default=4.0, help="length of a window (4)")
    given = made.parse_args(arguments)
    cores = take_own_core()
    settings = server_settings("mock", MAX_CONNECTING + 8, given.set)
    ran = conditions("load connects", settings, server=cores, load=sorted(os.sched_getaffinity(0)))
    progress, windows = Progress(2 * given.rounds), list[Window]()
    for target in list(TARGETS) * given.rounds:
        progress.step(target)
        with ServerProcess(TARGETS[target], settings, cores) as server:
            windows.append(uvloop.run(measure(server, target, given.seconds)))
    problems = sorted({line for each in windows for line in each.problems()})
    print_report(given, ran, [summarise(windows)], problems, windows=[asdict(each) for each in windows])
