"""What an engine costs on this machine: start, memory, CPU of live speech and of files.

The same streams are measured with the engine and with `mock`, which recognises nothing. The difference of their CPU is
the engine's, partials and finals together. The streams play the recordings with 1 s of silence after each.

start_s      from the start of the process to the first 200 of /health
rss_mb       resident memory of the server and its child processes, after the last measurement
live_cpu     CPU seconds for one second of speech of one stream; engine_cpu: without that of `mock`
file_cpu     CPU seconds for one second of an uploaded file; file_speed: seconds of audio per second
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bench.common.live_load import LevelMeter
from bench.common.recordings import GAP_MS, concatenate, load
from bench.common.report import Row, conditions, integers, parser, print_report, say
from bench.common.server_process import APP, ROOT, ServerProcess, server_settings

WARM_SECONDS = 5.0


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    made = parser("engine cost", __doc__)
    made.add_argument("--backend", default="mock", help="engine (mock)")
    made.add_argument("--streams", type=integers, default=[1], metavar="N,N", help="live streams (1)")
    made.add_argument("--seconds", type=float, default=60.0, help="length of each window (60)")
    made.add_argument("--file-seconds", type=float, default=120.0, help="length of the uploaded file (120)")
    made.add_argument("--folder", type=Path, default=ROOT / "references", help="recordings (references/)")
    made.add_argument("--language", default="en", help="language of the recordings (en)")
    made.add_argument("--cores", type=integers, metavar="N,N", help="the server's cores, from 0 (all)")
    given = made.parse_args(arguments)
    cores = given.cores or sorted(os.sched_getaffinity(0))
    recordings = [each for each in load(given.folder, [given.language], single=True) if each.text]
    file = concatenate(recordings, given.file_seconds, GAP_MS)
    length = sum(each.seconds + GAP_MS / 1000 for each in recordings)
    speech = sum(each.voiced_seconds() for each in recordings) / length
    rows, problems = list[Row](), list[str]()
    sessions = max(given.streams) + 8
    ran = conditions("engine cost", server_settings(given.backend, sessions, given.set), server=cores)
    meter = LevelMeter(recordings, given.seconds, WARM_SECONDS, given.seed, given.language)
    mock_cpu: dict[int, float] = {}
    for backend in dict.fromkeys(["mock", given.backend]):
        say(backend)
        with ServerProcess(APP, server_settings(backend, sessions, given.set), cores) as server:
            levels = [meter.measure(server, streams) for streams in given.streams]
            before = server.usage()
            server.transcribe(file, given.language).raise_for_status()
            spent = server.usage() - before
            once = {
                "file_cpu": round(spent.cpu / given.file_seconds, 3),
                "file_speed": round(given.file_seconds / spent.seconds, 1),
                "start_s": round(server.start_seconds, 1),
                "rss_mb": server.rss_bytes() // 10**6,
            }
        for level in levels:
            mock_cpu.setdefault(level.streams, level.cpu_ms)
            live = {
                "live_cpu": round(level.cpu_ms / 1000 / speech, 4),
                "engine_cpu": round((level.cpu_ms - mock_cpu[level.streams]) / 1000 / speech, 4),
            }
            rows.append({"backend": backend, "streams": level.streams} | live | once)
            problems += [f"{backend}, {level.streams} streams: {each}" for each in level.problems]
    print(f"Speech {speech:.0%} of the time")
    print_report(given, ran, rows, problems, speech=speech)
