"""Capacity: how many live speakers a server carries within a limit of delay.

A level is a number of live streams on a fresh server. It passes if p95 of endpoint to final, seen by the client, is at
most --limit-ms, nothing was dropped and nothing failed. Without --levels the number doubles until a level fails; then
it is bisected. Endpoint to final starts when the frame is sent whose last sample completes STT_VAD_SILENCE_MS of
silence, and ends when the final arrives. latency and first are the server's latency_ms and first_token_ms.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.common.live_load import Level, LevelMeter
from bench.common.recordings import load
from bench.common.report import Row, conditions, integers, parser, print_report, say, words
from bench.common.server_process import APP, ROOT, ServerProcess, server_settings
from bench.common.stats import rounded

CLOSE_ENOUGH = 1.1  # the search ends when the lowest failed level is at most so many times the highest passed one


def next_level(passed: Mapping[int, bool], most: int) -> int | None:
    """The number of streams to try next, given which levels passed; None: the capacity is found."""
    good = max((level for level, fine in passed.items() if fine), default=0)
    bad = min((level for level, fine in passed.items() if not fine), default=None)
    if bad is None:
        following = min(max(1, good * 2), most)
        return following if following > good else None
    if bad - good <= 1 or bad <= good * CLOSE_ENOUGH:
        return None
    return (good + bad) // 2


def capacity(passed: Mapping[int, bool]) -> int:
    """The highest passed level below the lowest failed one; 0 without one."""
    failed = min((streams for streams, fine in passed.items() if not fine), default=float("inf"))
    return max((streams for streams, fine in passed.items() if fine and streams < failed), default=0)


def add_arguments(made: argparse.ArgumentParser, warm_seconds: float) -> None:
    """The options of `climb` and of the levels' length."""
    made.add_argument(
        "--levels", type=integers, default=[], metavar="N,N", help="streams; else the capacity is searched"
    )
    made.add_argument("--most", type=int, default=512, help="most streams to try (512)")
    made.add_argument("--limit-ms", type=float, default=500.0, help="limit of p95 of endpoint to final (500)")
    made.add_argument("--seconds", type=float, default=30.0, help="length of the window of a level (30)")
    made.add_argument("--warm", type=float, default=warm_seconds, help=f"seconds of speech before it ({warm_seconds})")


def climb(measure: Callable[[int], Level], given: argparse.Namespace) -> dict[int, Level]:
    """Measure the given levels, or search for the capacity; the levels by their number of streams."""
    measured, remaining = dict[int, Level](), list(given.levels)
    while True:
        passed = {streams: level.passed(given.limit_ms) for streams, level in measured.items()}
        streams = next_level(passed, given.most) if not given.levels else remaining.pop(0) if remaining else None
        if streams is None:
            return dict(sorted(measured.items()))
        say(f"{streams} streams")
        measured[streams] = measure(streams)


def report(
    given: argparse.Namespace, ran: Row, levels: Mapping[int, Level], rows: Sequence[Row], **measured: object
) -> None:
    """Print the capacity and the table, and write the JSON, as `print_report` does."""
    carried = capacity({streams: level.passed(given.limit_ms) for streams, level in levels.items()})
    print(f"Capacity with p95 of endpoint to final <= {given.limit_ms:g} ms: {carried} streams. Times in ms.\n")
    problems = [f"{streams} streams: {each}" for streams, level in levels.items() for each in level.problems]
    told = {"limit_ms": given.limit_ms, "capacity": carried, "levels": [asdict(each) for each in levels.values()]}
    print_report(given, ran, rows, problems, **told, **measured)


def row(level: Level, limit_ms: float) -> Row:
    """One line of the table."""
    return {
        "streams": level.streams,
        "ok": "yes" if level.passed(limit_ms) else "NO",
        "finals": level.endpoint_ms["count"],
        **{f"endpoint {name}": level.endpoint_ms[name] for name in ("p50", "p95", "p99")},
        **{f"latency {name}": level.latency_ms[name] for name in ("p50", "p95", "p99")},
        **{f"first {name}": level.first_token_ms[name] for name in ("p50", "p95")},
        "wer": level.wer["wer"],
        "words": level.wer["words"],
        "rss_kb": rounded(level.rss_kb, 0),
        "cpu_ms": rounded(level.cpu_ms),
        "cores": rounded(level.cores),
        "dropped": level.dropped,
        "errors": len(level.errors),
        "generator": "LIMIT" if level.generator.was_the_limit else "ok",
    }


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    made = parser("load ramp", __doc__)
    cores = sorted(os.sched_getaffinity(0))
    add_arguments(made, 5.0)
    made.add_argument("--backend", default="mock", help="engine (mock)")
    made.add_argument("--folder", type=Path, default=ROOT / "references", help="recordings (references/)")
    made.add_argument("--language", type=words, default=[], metavar="L,L", help="recordings of these languages (all)")
    made.add_argument("--cores", type=integers, default=cores, metavar="N,N", help="the server's cores, from 0 (all)")
    given = made.parse_args(arguments)
    settings = server_settings(given.backend, max(given.most, *given.levels, 0) + 8, given.set)
    recordings = [each for each in load(given.folder, given.language, single=True) if each.text]
    language = given.language[0] if len(given.language) == 1 else "auto"
    meter = LevelMeter(recordings, given.seconds, given.warm, given.seed, language)
    ran = conditions("load ramp", settings, server=given.cores, load=cores)

    def measure(streams: int) -> Level:
        with ServerProcess(APP, settings, given.cores) as server:
            return meter.measure(server, streams)

    levels = climb(measure, given)
    report(given, ran, levels, [row(level, given.limit_ms) for level in levels.values()])
