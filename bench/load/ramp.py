"""Capacity: the number of live streams that a server carries within a limit of delay.

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

from bench.common.live_load import Level, LoadMeter
from bench.common.recordings import load
from bench.common.report import Row, argument_parser, integers, print_progress, print_report, run_conditions, words
from bench.common.server_process import APP, ROOT, ServerProcess, server_settings
from bench.common.stats import rounded

CLOSE_ENOUGH = 1.1  # the search ends when the lowest failed level is at most this multiple of the highest passed one


def next_level(passed: Mapping[int, bool], most: int) -> int | None:
    """Return the number of streams to try next, given which levels passed; None if the capacity is found."""
    highest_passed = max((level for level, ok in passed.items() if ok), default=0)
    lowest_failed = min((level for level, ok in passed.items() if not ok), default=None)
    if lowest_failed is None:
        doubled = min(max(1, highest_passed * 2), most)
        return doubled if doubled > highest_passed else None
    if lowest_failed - highest_passed <= 1 or lowest_failed <= highest_passed * CLOSE_ENOUGH:
        return None
    return (highest_passed + lowest_failed) // 2


def capacity(passed: Mapping[int, bool]) -> int:
    """Return the highest passed level below the lowest failed one; 0 without such a level."""
    lowest_failed = min((streams for streams, ok in passed.items() if not ok), default=float("inf"))
    return max((streams for streams, ok in passed.items() if ok and streams < lowest_failed), default=0)


def add_arguments(parser: argparse.ArgumentParser, warm_seconds: float) -> None:
    """Add the options of `measure_levels` and of `LoadMeter`."""
    parser.add_argument("--levels", type=integers, default=[], metavar="N,N", help="streams (search for the capacity)")
    parser.add_argument("--most", type=int, default=512, help="most streams to try (512)")
    parser.add_argument("--limit-ms", type=float, default=500.0, help="limit of p95 of endpoint to final (500)")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the window of a level (30)")
    parser.add_argument("--warm", type=float, default=warm_seconds, help=f"seconds of warm-up ({warm_seconds:g})")


def measure_levels(measure: Callable[[int], Level], args: argparse.Namespace) -> dict[int, Level]:
    """Measure the levels of `args`, or search for the capacity. Returns the levels by their number of streams."""
    levels, remaining = dict[int, Level](), list(args.levels)
    while True:
        passed = {streams: level.passed(args.limit_ms) for streams, level in levels.items()}
        streams = next_level(passed, args.most) if not args.levels else remaining.pop(0) if remaining else None
        if streams is None:
            return dict(sorted(levels.items()))
        print_progress(f"{streams} streams")
        levels[streams] = measure(streams)


def report(
    args: argparse.Namespace, conditions: Row, levels: Mapping[int, Level], rows: Sequence[Row], **measured: object
) -> None:
    """Print the capacity and the table, and write the JSON, as `print_report` does."""
    max_streams = capacity({streams: level.passed(args.limit_ms) for streams, level in levels.items()})
    print(f"Capacity with p95 of endpoint to final <= {args.limit_ms:g} ms: {max_streams} streams. Times in ms.\n")
    problems = [f"{streams} streams: {each}" for streams, level in levels.items() for each in level.problems]
    results = {"limit_ms": args.limit_ms, "capacity": max_streams, "levels": [asdict(each) for each in levels.values()]}
    print_report(args, conditions, rows, problems, **results, **measured)


def row(level: Level, limit_ms: float) -> Row:
    """Return a row of the table."""
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


def main(argv: Sequence[str]) -> None:
    """Run the command."""
    parser = argument_parser("load ramp", __doc__)
    cores = sorted(os.sched_getaffinity(0))
    add_arguments(parser, 5.0)
    parser.add_argument("--backend", default="mock", help="engine (mock)")
    parser.add_argument("--folder", type=Path, default=ROOT / "references", help="recordings (references/)")
    parser.add_argument("--language", type=words, default=[], metavar="L,L", help="recordings of these languages (all)")
    parser.add_argument("--cores", type=integers, default=cores, metavar="N,N", help="the server's cores, from 0 (all)")
    args = parser.parse_args(argv)
    settings = server_settings(args.backend, max(args.most, *args.levels, 0) + 8, args.set)
    recordings = [each for each in load(args.folder, args.language, single=True) if each.text]
    language = args.language[0] if len(args.language) == 1 else "auto"
    meter = LoadMeter(recordings, args.seconds, args.warm, args.seed, language)
    conditions = run_conditions("load ramp", settings, server=args.cores, load=cores)

    def measure(streams: int) -> Level:
        with ServerProcess(APP, settings, args.cores) as server:
            return meter.measure(server, streams)

    levels = measure_levels(measure, args)
    report(args, conditions, levels, [row(level, args.limit_ms) for level in levels.values()])
