"""Measures several servers in turn, each window on a fresh process, so that a slower machine is slower for all."""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from bench.common.live_load import Level, LevelMeter
from bench.common.recordings import load
from bench.common.report import Row, integers, print_progress, print_report, run_conditions
from bench.common.server_process import APP, ROOT, ServerProcess, server_settings
from bench.common.stats import Summary, median, rounded, summary


@dataclass(frozen=True, slots=True)
class Target:
    """What is measured."""

    name: str
    arguments: Sequence[str] = APP
    root: Path = ROOT  # its checkout
    silent: bool = False  # whether it sends nothing
    background_load: Callable[[ServerProcess], AbstractContextManager[None]] = lambda _: nullcontext()
    """What goes on while it is measured."""


BARE_SOCKET = ("-m", "uvicorn", "bench.load.bare_socket:app")


def add_arguments(parser: argparse.ArgumentParser, streams: list[int], *, rounds: int, seconds: float) -> None:
    """The options of `compare`, with these defaults."""
    parser.add_argument("--streams", type=integers, default=streams, metavar="N,N", help=f"live streams ({streams})")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"windows of each ({rounds})")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"length of a window ({seconds:g})")
    parser.add_argument("--warm", type=float, default=3.0, help="speech before each window, in seconds (3)")


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


def row(target: str, windows: Sequence[Level], baseline: Sequence[Level]) -> Row:
    """One line of the table: medians over the windows of one target, percentiles over all their finals."""
    ratios = [each.cpu_ms / base.cpu_ms for each, base in zip(windows, baseline, strict=True) if base.cpu_ms]
    endpoints, base_p95 = _endpoints(windows), _endpoints(baseline)["p95"]

    def middle(name: str, digits: int = 2) -> float | None:
        return rounded(median([getattr(each, name) for each in windows]), digits)

    return {
        "streams": windows[0].streams,
        "target": target,
        "cpu_ms": middle("cpu_ms"),
        "ratio": rounded(median(ratios)),
        "ratios": f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else None,
        "loop_ms": middle("event_loop_cpu_ms"),
        "wake_ups": middle("wake_ups", 1),
        "cores": middle("cores"),
        "finals": endpoints["count"],
        **{name: endpoints[name] for name in ("p50", "p95", "p99")},
        "p95s": " ".join(f"{p95:.0f}" for each in windows if (p95 := each.endpoint_ms["p95"]) is not None),
        "p95 ratio": rounded(endpoints["p95"] / base_p95) if endpoints["p95"] and base_p95 else None,
        "dropped": sum(each.dropped for each in windows),
        "errors": sum(len(each.errors) for each in windows),
        "rss_kb": middle("rss_kb", 0),
        "threads": middle("threads"),
        "gen_late": rounded(max(each.generator.late_p99_ms or 0.0 for each in windows), 1),
    }


def _endpoints(windows: Sequence[Level]) -> Summary:
    return summary([value for each in windows for value in each.endpoints])


def compare(
    command: str, targets: Sequence[Target], args: argparse.Namespace, cores: Sequence[int], *, niceness: int = 0
) -> None:
    """Measure all targets with the mock engine, print the table and write the JSON.

    Args:
        command: for the report, such as `load overhead`.
        targets: ratios are to the first.
        args: the values of `add_arguments` and of `argument_parser`.
        cores: of the servers.
        niceness: of the servers, added to that of this process.
    """
    settings = server_settings("mock", max(args.streams) + 8, args.set)
    conditions = run_conditions(command, settings, server=cores, load=sorted(os.sched_getaffinity(0)))
    meter = LevelMeter(load(ROOT / "references", single=True), args.seconds, args.warm, args.seed)
    measured = defaultdict[tuple[int, str], list[Level]](list)
    for streams, number, target in product(args.streams, range(args.rounds), targets):
        print_progress(f"{streams} streams, round {number + 1} of {args.rounds}: {target.name}")
        with (
            ServerProcess(target.arguments, settings, cores, root=target.root, niceness=niceness) as server,
            target.background_load(server),
        ):
            measured[streams, target.name].append(meter.measure(server, streams, silent_server=target.silent))
    rows = [row(name, mine, measured[streams, targets[0].name]) for (streams, name), mine in measured.items()]
    named = [(name, level) for (_, name), mine in measured.items() for level in mine]
    problems = [f"{name}, {level.streams} streams: {each}" for name, level in named for each in level.problems]
    print_report(args, conditions, rows, problems, windows=[{"target": name} | asdict(level) for name, level in named])
