"""Measures two servers in turn, each window on a fresh process, so that a slower machine is slower for both."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from bench.common.live_load import Level, LevelMeter
from bench.common.recordings import PlaylistBuilder, load
from bench.common.report import Progress, add_window_options, conditions, integers, table, write_json
from bench.common.server_process import APP, ROOT, ServerProcess, server_settings, uvicorn
from bench.common.stats import median, rounded, summary


@dataclass(frozen=True, slots=True)
class Target:
    """A server to measure."""

    arguments: Sequence[str] = APP
    root: Path = ROOT  # its checkout
    silent: bool = False  # whether it sends nothing


BARE_SOCKET = Target(uvicorn("bench.load.bare_socket:app"), silent=True)


def add_arguments(made: argparse.ArgumentParser, streams: list[int], rounds: int) -> None:
    """The options of `run`, with these defaults."""
    made.add_argument("--streams", type=integers, default=streams, metavar="N,N", help=f"{streams}")
    add_window_options(made, rounds=rounds, seconds=6.0)
    made.add_argument("--against", type=Path, metavar="DIR", help="checkout of another version, to compare with")


def run(
    command: str,
    targets: Mapping[str, Target],
    given: argparse.Namespace,
    *,
    cores: Sequence[int],
    niceness: int = 0,
    background: AbstractContextManager[None],
) -> None:
    """Measure all targets with the mock engine, print the table and write the JSON.

    Args:
        command: for the report, such as `load overhead`.
        targets: by name; ratios are to the first.
        given: the values of `add_arguments`.
        cores: of the servers.
        niceness: of the servers, added to that of this process.
        background: lasts while the windows are measured.
    """
    settings = server_settings("mock", max(given.streams) + 8, given.set)
    ran = conditions(command, settings, server=cores, load=sorted(os.sched_getaffinity(0)))
    builder = PlaylistBuilder(load(ROOT / "references", single=True))
    meter = LevelMeter(builder, settings, given.seconds, given.warm, given.seed)
    progress = Progress(len(given.streams) * given.rounds * len(targets))
    windows: list[tuple[str, Level]] = []
    with background:
        for streams, _, (name, target) in product(given.streams, range(given.rounds), targets.items()):
            progress.step(f"{name}, {streams} streams")
            with ServerProcess(target.arguments, settings, cores, root=target.root, niceness=niceness) as server:
                windows.append((name, meter.measure(server, streams, silent_server=target.silent)))
    rows = [row(windows, name, next(iter(targets)), streams) for streams in given.streams for name in targets]
    problems = [line for name, level in windows for line in level.problems(f"{name}, {level.streams} streams")]
    print("\n".join([table(rows), "", *dict.fromkeys(problems)]))
    told = [{"target": name} | asdict(level) for name, level in windows]
    write_json(given.json, ran | {"rows": rows, "problems": problems, "windows": told})


def row(windows: Sequence[tuple[str, Level]], target: str, baseline: str, streams: int) -> dict[str, Any]:
    """One line of the table: medians over the windows of one target, percentiles over all its finals."""
    mine, first = ([one for of, one in windows if (of, one.streams) == (name, streams)] for name in (target, baseline))
    ratios = [one.cpu_ms / two.cpu_ms for one, two in zip(mine, first, strict=True) if two.cpu_ms]
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
