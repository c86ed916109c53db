"""Delays of live streams beside uploads of an hour each, with the mock engine, next to the same streams alone.

The server, with the processes that decode its files, has one core, and the generator another. The clients that upload
run on the server's core when nothing else does: they must delay neither. In each round the streams are measured alone
and then beside the uploads, each time on a fresh server. A client uploads its file again as soon as it has its answer.

p50, p95, p99   ms from the frame that completes the endpoint's silence to the final, seen by the client; of all rounds
p95s            p95 of each window
ratio           p95 by that of the streams alone
gen_late        largest p99 of the lateness of the generator, in ms
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from threading import Thread

import httpx

from bench.common.live_load import Level, LevelMeter
from bench.common.recordings import PlaylistBuilder, concatenate, load, wav
from bench.common.report import Progress, Row, add_window_options, conditions, parser, table, write_json
from bench.common.server_process import APP, HTTP_TIMEOUT_SECONDS, ROOT, ServerProcess, server_settings
from bench.common.stats import rounded, summary

_GAP_MS = 1_000


@dataclass(frozen=True, slots=True)
class Window:
    """The streams for a while, beside so many uploads."""

    uploads: int
    level: Level


def metric(server: ServerProcess, name: str) -> float:
    """A metric's value now."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", httpx.get(f"{server.url}/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@contextmanager
def uploading(server: ServerProcess, clients: int, seconds: float, cores: Iterable[int]) -> Iterator[None]:
    """Clients that upload files of so many seconds, from when all of them have begun until the context ends."""
    if not clients:
        yield
        return
    arguments = [sys.executable, "-m", "bench.load.uploads", server.url, str(clients), str(seconds)]
    process = subprocess.Popen(arguments, cwd=ROOT)
    os.sched_setaffinity(process.pid, cores)
    try:
        while metric(server, "stt_http_requests_in_progress") < clients:
            if process.poll() is not None:
                raise SystemExit("the uploads failed")
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


def upload_for_ever(url: str, clients: int, seconds: float) -> None:
    """Upload the same file again and again, from so many threads."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    content = wav(concatenate(load(ROOT / "references"), seconds, _GAP_MS))

    def upload() -> None:
        while True:
            file = {"file": ("recording.wav", content)}
            httpx.post(f"{url}/v1/stt/transcribe", files=file, timeout=HTTP_TIMEOUT_SECONDS).raise_for_status()

    threads = [Thread(target=upload) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def summarise(windows: Sequence[Window], uploads: int) -> Row:
    """The row of the windows beside so many uploads."""

    def finals(count: int) -> list[float]:
        return [value for each in windows if each.uploads == count for value in each.level.endpoints]

    mine = [each for each in windows if each.uploads == uploads]
    ours, alone = summary(finals(uploads)), summary(finals(0))
    return {
        "uploads": uploads,
        "streams": mine[0].level.streams,
        "finals": ours["count"],
        **{name: rounded(ours[name], 1) for name in ("p50", "p95", "p99")},
        "p95s": " ".join(str(rounded(each.level.endpoint_ms["p95"], 0)) for each in mine),
        "ratio": rounded(ours["p95"] / alone["p95"] if ours["p95"] and alone["p95"] else None),
        "dropped": sum(each.level.dropped for each in mine),
        "errors": sum(len(each.level.errors) for each in mine),
        "gen_late": rounded(max(each.level.generator.late_p99_ms or 0.0 for each in mine), 1),
    }


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    made = parser("load uploads", __doc__)
    made.add_argument("--streams", type=int, default=20, help="live streams (20)")
    made.add_argument("--uploads", type=int, default=4, help="uploads at once (4)")
    made.add_argument("--file-seconds", type=float, default=3600.0, help="length of an uploaded file (3600)")
    add_window_options(made, rounds=3, seconds=8.0)
    given = made.parse_args(arguments)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-1:])
    settings = server_settings("mock", given.streams + 8, ["MAX_UPLOAD_BYTES=1000000000", *given.set])
    ran = conditions("load uploads", settings, server=cores[:1], load=cores[-1:])
    meter = LevelMeter(
        PlaylistBuilder(load(ROOT / "references", single=True)), settings, given.seconds, given.warm, given.seed
    )
    progress, windows = Progress(2 * given.rounds), list[Window]()
    for uploads in [0, given.uploads] * given.rounds:
        progress.step(f"{uploads} uploads")
        with (
            ServerProcess(APP, settings, cores[:1]) as server,
            uploading(server, uploads, given.file_seconds, cores[:1]),
        ):
            windows.append(Window(uploads, meter.measure(server, given.streams)))
    rows = [summarise(windows, uploads) for uploads in (0, given.uploads)]
    problems = [line for each in windows for line in each.level.problems(f"{each.uploads} uploads")]
    print("\n".join([table(rows), "", *dict.fromkeys(problems)]))
    write_json(given.json, ran | {"rows": rows, "problems": problems, "windows": [asdict(each) for each in windows]})


if __name__ == "__main__":
    upload_for_ever(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
