"""Compares servers. Their windows alternate, each on a fresh process, so a slow machine is slow for all of them."""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from bench.common.live_load import Level, LoadMeter
from bench.common.recordings import load
from bench.common.report import Row, integers, print_progress, print_report, run_conditions
from bench.common.server_process import APP, ROOT, ServerProcess, server_settings
from bench.common.stats import Summary, median, rounded, summary


@dataclass(frozen=True, slots=True)
class Target:
    """A server to measure."""

    name: str
    arguments: Sequence[str] = APP
    root: Path = ROOT  # checkout of the server
    silent: bool = False  # whether the server sends nothing
    background_load: Callable[[ServerProcess], AbstractContextManager[None]] = lambda _: nullcontext()
    """Loads the server with other work while a window is measured."""


BARE_SOCKET = ("-m", "uvicorn", "bench.load.bare_socket:app")


def add_arguments(parser: argparse.ArgumentParser, streams: list[int], *, rounds: int, seconds: float) -> None:
    """Add the options of `compare`, with these defaults."""
    parser.add_argument("--streams", type=integers, default=streams, metavar="N,N", help=f"live streams ({streams})")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"windows of each server ({rounds})")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"length of a window ({seconds:g})")
    parser.add_argument("--warm", type=float, default=3.0, help="seconds of speech before each window (3)")


def take_own_core() -> list[int]:
    """Keep this process, the generator, on the last core, and return the core of the server.

    Raises:
        SystemExit: there is one core only.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        raise SystemExit("two cores are needed: the generator needs one of its own")
    os.sched_setaffinity(0, cores[-1:])
    return cores[:1]


def row(target: str, windows: Sequence[Level], baseline: Sequence[Level]) -> Row:
    """Return a row of the table: medians over the windows of a target, and percentiles over all their finals."""
    ratios = [each.cpu_ms / base.cpu_ms for each, base in zip(windows, baseline, strict=True) if base.cpu_ms]
    endpoints, base_p95 = _endpoints(windows), _endpoints(baseline)["p95"]

    def median_of(name: str, digits: int = 2) -> float | None:
        return rounded(median([getattr(each, name) for each in windows]), digits)

    return {
        "streams": windows[0].streams,
        "target": target,
        "cpu_ms": median_of("cpu_ms"),
        "ratio": rounded(median(ratios)),
        "ratios": f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else None,
        "loop_ms": median_of("event_loop_cpu_ms"),
        "wake_ups": median_of("wake_ups", 1),
        "cores": median_of("cores"),
        "finals": endpoints["count"],
        **{name: endpoints[name] for name in ("p50", "p95", "p99")},
        "p95s": " ".join(f"{p95:.0f}" for each in windows if (p95 := each.endpoint_ms["p95"]) is not None),
        "p95 ratio": rounded(endpoints["p95"] / base_p95) if endpoints["p95"] and base_p95 else None,
        "dropped": sum(each.dropped for each in windows),
        "errors": sum(len(each.errors) for each in windows),
        "rss_kb": median_of("rss_kb", 0),
        "threads": median_of("threads"),
        "gen_late": rounded(max(each.generator.late_p99_ms or 0.0 for each in windows), 1),
    }


def _endpoints(windows: Sequence[Level]) -> Summary:
    return summary([value for each in windows for value in each.endpoints])


def compare(
    command: str, targets: Sequence[Target], args: argparse.Namespace, cores: Sequence[int], *, niceness: int = 0
) -> None:
    """Measure all targets with the mock engine, print the table and write the JSON.

    Args:
        command: the name in the report, such as `load overhead`.
        targets: the servers; the first is the baseline of the ratios.
        args: the values of `add_arguments` and of `argument_parser`.
        cores: the cores of the servers.
        niceness: the niceness of the servers, added to that of this process.
    """
    settings = server_settings("mock", max(args.streams) + 8, args.set)
    conditions = run_conditions(command, settings, server=cores, load=sorted(os.sched_getaffinity(0)))
    meter = LoadMeter(load(ROOT / "references", single=True), args.seconds, args.warm, args.seed)
    levels = defaultdict[tuple[int, str], list[Level]](list)
    for streams, number, target in product(args.streams, range(args.rounds), targets):
        print_progress(f"{streams} streams, round {number + 1} of {args.rounds}: {target.name}")
        with (
            ServerProcess(target.arguments, settings, cores, root=target.root, niceness=niceness) as server,
            target.background_load(server),
        ):
            levels[streams, target.name].append(meter.measure(server, streams, silent_server=target.silent))
    rows = [row(name, windows, levels[streams, targets[0].name]) for (streams, name), windows in levels.items()]
    named_levels = [(name, level) for (_, name), windows in levels.items() for level in windows]
    problems = [f"{name}, {level.streams} streams: {each}" for name, level in named_levels for each in level.problems]
    windows_json = [{"target": name} | asdict(level) for name, level in named_levels]
    print_report(args, conditions, rows, problems, windows=windows_json)
