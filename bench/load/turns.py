"""Measures several servers in turn, each window on a fresh process, so that a slower machine is slower for all."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from bench.common.live_load import Level, LevelMeter
from bench.common.recordings import PlaylistBuilder, load
from bench.common.report import Progress, Row, conditions, integers, print_report
from bench.common.server_process import APP, ROOT, ServerProcess, server_settings
from bench.common.stats import median, rounded, summary


@dataclass(frozen=True, slots=True)
class Target:
    """What is measured."""

    name: str
    arguments: Sequence[str] = APP
    root: Path = ROOT  # its checkout
    silent: bool = False  # whether it sends nothing
    beside: Callable[[ServerProcess], AbstractContextManager[None]] = lambda _: nullcontext()
    """What goes on while it is measured."""


BARE_SOCKET = ("-m", "uvicorn", "bench.load.bare_socket:app")


def add_arguments(made: argparse.ArgumentParser, streams: list[int], *, rounds: int, seconds: float) -> None:
    """The options of `measure`, with these defaults."""
    made.add_argument("--streams", type=integers, default=streams, metavar="N,N", help=f"live streams ({streams})")
    made.add_argument("--rounds", type=int, default=rounds, help=f"windows of each ({rounds})")
    made.add_argument("--seconds", type=float, default=seconds, help=f"length of a window ({seconds:g})")
    made.add_argument("--warm", type=float, default=3.0, help="speech before each window, in seconds (3)")


def take_own_core() -> list[int]:
    """Keep this process, the generator, on the last core; the core of the server.

    Raises:
        SystemExit: there is one core only.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        raise SystemExit("two cores are needed: the generator needs one of its own")
    os.sched_setaffinity(0, cores[-1:])
    return cores[:1]


@dataclass(frozen=True, slots=True)
class Windows:
    """The levels that were measured, and of which target each is."""

    measured: Sequence[tuple[str, Level]]

    def of(self, target: str, streams: int) -> list[Level]:
        """Those of a target with so many streams, in the order of the rounds."""
        return [level for name, level in self.measured if (name, level.streams) == (target, streams)]

    def row(self, target: str, streams: int, baseline: str) -> dict[str, Any]:
        """One line of the table: medians over the windows of one target, percentiles over all its finals."""
        mine = self.of(target, streams)
        pairs = zip(mine, self.of(baseline, streams), strict=True)
        ratios = [each.cpu_ms / base.cpu_ms for each, base in pairs if base.cpu_ms]
        endpoints = summary([value for each in mine for value in each.endpoints])

        def middle(name: str, digits: int = 2) -> float | None:
            return rounded(median([getattr(each, name) for each in mine]), digits)

        return {
            "streams": streams,
            "target": target,
            "cpu_ms": middle("cpu_ms"),
            "ratio": rounded(median(ratios)),
            "ratios": f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else None,
            "loop_ms": middle("event_loop_cpu_ms"),
            "wake_ups": middle("wake_ups", 1),
            "cores": middle("cores"),
            "finals": endpoints["count"],
            **{name: endpoints[name] for name in ("p50", "p95", "p99")},
            "p95s": " ".join(f"{p95:.0f}" for each in mine if (p95 := each.endpoint_ms["p95"]) is not None),
            "dropped": sum(each.dropped for each in mine),
            "errors": sum(len(each.errors) for each in mine),
            "rss_kb": middle("rss_kb", 0),
            "threads": middle("threads"),
            "gen_late": rounded(max(each.generator.late_p99_ms or 0.0 for each in mine), 1),
        }


def measure(
    command: str,
    targets: Sequence[Target],
    given: argparse.Namespace,
    cores: Sequence[int],
    *,
    make_rows: Callable[[Windows], list[Row]] | None = None,
    niceness: int = 0,
) -> None:
    """Measure all targets with the mock engine, print the table and write the JSON.

    Args:
        command: for the report, such as `load overhead`.
        targets: ratios are to the first.
        given: the values of `add_arguments` and of `parser`.
        cores: of the servers.
        make_rows: of the table; None: one of `Windows.row` for each target and number of streams.
        niceness: of the servers, added to that of this process.
    """
    settings = server_settings("mock", max(given.streams) + 8, given.set)
    ran = conditions(command, settings, server=cores, load=sorted(os.sched_getaffinity(0)))
    builder = PlaylistBuilder(load(ROOT / "references", single=True))
    meter = LevelMeter(builder, given.seconds, given.warm, given.seed)
    progress, measured = Progress(len(given.streams) * given.rounds * len(targets)), list[tuple[str, Level]]()
    for streams, _, target in product(given.streams, range(given.rounds), targets):
        progress.step(f"{target.name}, {streams} streams")
        with (
            ServerProcess(target.arguments, settings, cores, root=target.root, niceness=niceness) as server,
            target.beside(server),
        ):
            measured.append((target.name, meter.measure(server, streams, silent_server=target.silent)))
    windows = Windows(measured)
    rows: list[Row] = [
        windows.row(each.name, streams, targets[0].name) for streams in given.streams for each in targets
    ]
    problems = [line for name, level in measured for line in level.problems(f"{name}, {level.streams} streams")]
    told = [{"target": name} | asdict(level) for name, level in measured]
    print_report(given, ran, make_rows(windows) if make_rows else rows, problems, windows=told)
