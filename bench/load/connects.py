"""Connections per second: connect, `ready`, close, at most 64 open at once, compared with a bare WebSocket.

Each window has a fresh process on one core; the generator has another core. The bare WebSocket sends no `ready`.

cpu_ms      CPU of the server for one connection, which other processes disturb less than the rate
core        part of a core that the server used; generator: part of a core that the generator used
ratio       rate divided by that of the bare WebSocket; cpu_ratio: cpu_ms of the bare WebSocket divided by cpu_ms
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import uvloop

from bench.common.paced_sender import MAX_CPU
from bench.common.report import Row, argument_parser, print_progress, print_report, run_conditions
from bench.common.server_process import APP, ServerProcess, server_settings
from bench.common.stats import median
from bench.common.websocket_client import MAX_CONNECTING, ConnectionRefused, connect
from bench.load.server_comparison import BARE_SOCKET, take_own_core

MEDIANS = ("per_second", "cpu_ms", "core", "generator")
TARGETS = {"bare": BARE_SOCKET, "server": APP}
SERVER_BUSY = 0.9  # the server was the limit if it used at least this part of its core


@dataclass(frozen=True, slots=True)
class Window:
    """The measurement of a server in one window."""

    target: str
    per_second: float
    cpu_ms: float  # CPU of the server for one connection
    core: float  # part of a core that the server used
    generator: float  # part of a core that the generator used
    errors: list[str]

    def problems(self) -> list[str]:
        """Return reasons to doubt the rate."""
        problems = [f"ERROR: {self.target}: {error}" for error in self.errors]
        if self.generator > MAX_CPU:
            problems.append(f"THE GENERATOR WAS THE LIMIT: {self.target}")
        elif self.core < SERVER_BUSY:
            problems.append(f"NEITHER WAS THE LIMIT: {self.target}; trust cpu_ms only")
        return problems


async def connect_repeatedly(port: int, seconds: float, *, wait_for_message: bool) -> tuple[int, list[str]]:
    """Connect and close until `seconds` have passed. Returns the number of connections and the errors."""
    connections, errors, deadline = 0, list[str](), time.monotonic() + seconds

    async def run_client() -> None:
        nonlocal connections
        while time.monotonic() < deadline:
            try:
                client = await connect(port, iter(()), wait_for_message=wait_for_message)
                await client.close()
                connections += 1
            except (ConnectionRefused, TimeoutError, OSError) as error:
                errors.append(f"{type(error).__name__} {error}")

    await asyncio.gather(*(run_client() for _ in range(MAX_CONNECTING)))
    return connections, errors


async def measure(server: ServerProcess, target: str, seconds: float) -> Window:
    """Measure one window after a short warm-up."""
    sends_ready = target == "server"
    await connect_repeatedly(server.port, 0.3, wait_for_message=sends_ready)
    usage_before, own_cpu_before = server.usage(), time.process_time()
    connections, errors = await connect_repeatedly(server.port, seconds, wait_for_message=sends_ready)
    usage, own_cpu = server.usage() - usage_before, time.process_time() - own_cpu_before
    cpu_ms = usage.cpu * 1000 / max(1, connections)
    rates = connections / usage.seconds, cpu_ms, usage.cpu / usage.seconds, own_cpu / usage.seconds
    return Window(target, *rates, errors)


def summarise(windows: Sequence[Window]) -> Sequence[Row]:
    """Return a row for each target: medians over its windows."""
    rows = list[dict[str, Any]]()
    for target in TARGETS:
        group = [each for each in windows if each.target == target]
        medians = {name: median([getattr(each, name) for each in group]) or float("nan") for name in MEDIANS}
        baseline = rows[0] if rows else medians
        ratios = {
            "ratio": medians["per_second"] / baseline["per_second"],
            "cpu_ratio": baseline["cpu_ms"] / medians["cpu_ms"],
        }
        rounded = {name: round(value, 2) for name, value in (medians | ratios).items()}
        rows.append({"target": target, **rounded, "errors": sum(len(each.errors) for each in group)})
    return rows


def main(argv: Sequence[str]) -> None:
    """Run the command."""
    parser = argument_parser("load connects", __doc__)
    parser.add_argument("--rounds", type=int, default=5, help="windows of each server (5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a window (4)")
    args = parser.parse_args(argv)
    cores = take_own_core()
    settings = server_settings("mock", MAX_CONNECTING + 8, args.set)
    conditions = run_conditions("load connects", settings, server=cores, load=sorted(os.sched_getaffinity(0)))
    windows = list[Window]()
    for number, target in product(range(args.rounds), TARGETS):
        print_progress(f"round {number + 1} of {args.rounds}: {target}")
        with ServerProcess(TARGETS[target], settings, cores) as server:
            windows.append(uvloop.run(measure(server, target, args.seconds)))
    problems = [line for each in windows for line in each.problems()]
    print_report(args, conditions, summarise(windows), problems, windows=[asdict(each) for each in windows])
