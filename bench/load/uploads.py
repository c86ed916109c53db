"""Delays of live streams during uploads of an hour each, with the mock engine, compared with the streams alone.

The server, with the processes that decode its files, has one core, and the generator another. The uploading clients run
on the server's core only when it is idle, so they delay neither. In each round the streams are measured alone and then
during the uploads, each time on a fresh server. A client uploads its file again as soon as it has its answer.

The columns are those of `overhead`; CPU and memory are those of the server and of what decodes its files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context

import httpx

from bench.common.recordings import GAP_MS, concatenate, load, wav
from bench.common.report import argument_parser
from bench.common.server_process import HTTP_TIMEOUT_SECONDS, ROOT, ServerProcess
from bench.load.server_comparison import Target, add_arguments, compare, take_own_core


@contextmanager
def run_uploads(server: ServerProcess, clients: int, seconds: float, cores: Iterable[int]) -> Iterator[None]:
    """Run clients that upload files of so many seconds. The context begins when all of them upload."""
    process = get_context("spawn").Process(target=upload_repeatedly, args=(server.url, clients, seconds, set(cores)))
    process.start()
    try:
        while server.metric("stt_http_requests_in_progress") < clients:
            if not process.is_alive():
                raise SystemExit("the uploads failed")
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.join()


def upload_repeatedly(url: str, clients: int, seconds: float, cores: set[int]) -> None:
    """Upload the same file repeatedly from each thread. This runs in a process of its own."""
    os.sched_setaffinity(0, cores)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    content = wav(concatenate(load(ROOT / "references"), seconds, GAP_MS))

    def upload(_: int) -> None:
        while True:
            file = {"file": ("recording.wav", content)}
            httpx.post(f"{url}/v1/stt/transcribe", files=file, timeout=HTTP_TIMEOUT_SECONDS).raise_for_status()

    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(upload, range(clients)))


def main(argv: Sequence[str]) -> None:
    """Run the command."""
    parser = argument_parser("load uploads", __doc__)
    add_arguments(parser, [20], rounds=3, seconds=8.0)
    parser.add_argument("--uploads", type=int, default=4, help="number of concurrent uploads (4)")
    parser.add_argument("--file-seconds", type=float, default=3600.0, help="length of an uploaded file (3600)")
    args = parser.parse_args(argv)
    args.set = ["MAX_UPLOAD_BYTES=1000000000", *args.set]
    cores = take_own_core()
    uploads = partial(run_uploads, clients=args.uploads, seconds=args.file_seconds, cores=cores)
    compare("load uploads", [Target("alone"), Target("uploads", background_load=uploads)], args, cores)
