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
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from threading import Thread

import httpx

from bench.common.recordings import concatenate, load, wav
from bench.common.report import Row, parser
from bench.common.server_process import HTTP_TIMEOUT_SECONDS, ROOT, ServerProcess
from bench.common.stats import rounded
from bench.load.turns import Target, Windows, add_arguments, measure, take_own_core

_GAP_MS = 1_000
_COLUMNS = ("streams", "finals", "p50", "p95", "p99", "p95s", "ratio", "dropped", "errors", "gen_late")


@contextmanager
def uploading(server: ServerProcess, clients: int, seconds: float, cores: Iterable[int]) -> Iterator[None]:
    """Clients that upload files of so many seconds, from when all of them have begun until the context ends."""
    arguments = [sys.executable, "-m", "bench.load.uploads", server.url, str(clients), str(seconds)]
    process = subprocess.Popen(arguments, cwd=ROOT)
    os.sched_setaffinity(process.pid, cores)
    try:
        while server.metric("stt_http_requests_in_progress") < clients:
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


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    made = parser("load uploads", __doc__)
    add_arguments(made, [20], rounds=3, seconds=8.0)
    made.add_argument("--uploads", type=int, default=4, help="uploads at once (4)")
    made.add_argument("--file-seconds", type=float, default=3600.0, help="length of an uploaded file (3600)")
    given = made.parse_args(arguments)
    given.set = ["MAX_UPLOAD_BYTES=1000000000", *given.set]
    cores = take_own_core()
    uploads = {"alone": 0, "uploads": given.uploads}

    def rows(windows: Windows) -> list[Row]:
        made = list[Row]()
        for streams, (name, count) in product(given.streams, uploads.items()):
            row, alone = windows.row(name, streams, "alone"), windows.row("alone", streams, "alone")
            ratio = rounded(row["p95"] / alone["p95"]) if row["p95"] and alone["p95"] else None
            made.append({"uploads": count} | {each: row[each] for each in _COLUMNS} | {"ratio": ratio})
        return made

    beside = Target("uploads", beside=lambda server: uploading(server, given.uploads, given.file_seconds, cores))
    measure("load uploads", [Target("alone"), beside], given, cores, make_rows=rows)


if __name__ == "__main__":
    upload_for_ever(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
