"""Cost of an engine on this machine: start time, memory, and CPU for live speech and for files.

The same streams are measured with the engine and with `mock`, which recognises nothing. The difference in CPU is the
cost of the engine, for partials and finals. The streams play the recordings with 1 s of silence after each.

start_s      from the start of the process to the first 200 of /health
rss_mb       resident memory of the server and its child processes after the last measurement
live_cpu     CPU seconds for one second of speech of one stream; engine_cpu: live_cpu minus that of `mock`
file_cpu     CPU seconds for one second of an uploaded file; file_speed: seconds of audio per second
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bench.common.live_load import LoadMeter
from bench.common.recordings import GAP_MS, concatenate, load
from bench.common.report import Row, argument_parser, integers, print_progress, print_report, run_conditions
from bench.common.server_process import APP, ROOT, ServerProcess, server_settings

WARM_SECONDS = 5.0


def main(argv: Sequence[str]) -> None:
    """Run the command."""
    parser = argument_parser("engine cost", __doc__)
    parser.add_argument("--backend", default="mock", help="engine (mock)")
    parser.add_argument("--streams", type=integers, default=[1], metavar="N,N", help="numbers of live streams (1)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each window (60)")
    parser.add_argument("--file-seconds", type=float, default=120.0, help="length of the uploaded file (120)")
    parser.add_argument("--folder", type=Path, default=ROOT / "references", help="recordings (references/)")
    parser.add_argument("--language", default="en", help="language of the recordings (en)")
    parser.add_argument("--cores", type=integers, metavar="N,N", help="the server's cores, from 0 (all)")
    args = parser.parse_args(argv)
    cores = args.cores or sorted(os.sched_getaffinity(0))
    recordings = [each for each in load(args.folder, [args.language], single=True) if each.text]
    file = concatenate(recordings, args.file_seconds, GAP_MS)
    seconds = sum(each.seconds + GAP_MS / 1000 for each in recordings)
    speech_ratio = sum(each.voiced_seconds() for each in recordings) / seconds
    rows, problems = list[Row](), list[str]()
    sessions = max(args.streams) + 8
    conditions = run_conditions("engine cost", server_settings(args.backend, sessions, args.set), server=cores)
    meter = LoadMeter(recordings, args.seconds, WARM_SECONDS, args.seed, args.language)
    mock_cpu: dict[int, float] = {}
    for backend in dict.fromkeys(["mock", args.backend]):
        print_progress(backend)
        with ServerProcess(APP, server_settings(backend, sessions, args.set), cores) as server:
            levels = [meter.measure(server, streams) for streams in args.streams]
            before = server.usage()
            server.transcribe(file, args.language).raise_for_status()
            usage = server.usage() - before
            server_columns = {
                "file_cpu": round(usage.cpu / args.file_seconds, 3),
                "file_speed": round(args.file_seconds / usage.seconds, 1),
                "start_s": round(server.start_seconds, 1),
                "rss_mb": server.rss_bytes() // 10**6,
            }
        for level in levels:
            mock_cpu.setdefault(level.streams, level.cpu_ms)
            live_columns = {
                "live_cpu": round(level.cpu_ms / 1000 / speech_ratio, 4),
                "engine_cpu": round((level.cpu_ms - mock_cpu[level.streams]) / 1000 / speech_ratio, 4),
            }
            rows.append({"backend": backend, "streams": level.streams} | live_columns | server_columns)
            problems += [f"{backend}, {level.streams} streams: {each}" for each in level.problems]
    print(f"Speech {speech_ratio:.0%} of the time")
    print_report(args, conditions, rows, problems, speech=speech_ratio)
