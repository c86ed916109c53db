"""What happens to an utterance whose audio stops coming: muted, behind a late network, or from a busy browser page.

muted: the client sends no more after the last word; ms is the time from its last message to the final.
network: everything that the client sends is held up for so long in the middle of a word, pongs too.
browser: the script of a page in Chromium is held up for so long in the middle of a word; the browser answers pings.
cut: utterances that were ended in the middle of the word, of all.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

from websockets.sync.client import connect

from bench.common.report import Progress, Row, conditions, integers, parser, table, write_json
from bench.common.server_process import APP, ROOT, ServerProcess, server_settings
from bench.common.stats import median

_FRAME = 640
_HELD_FROM_MS = 1_200
"""In the middle of the recording's speech."""
_PAGE = Path(__file__).with_name("stall_page.html")
_RESULT_SECONDS = 60.0
Finals = list[dict[str, object]]


class Proxy:
    """Forwards one TCP connection to a port, and holds up what the client sends while `held` is set."""

    def __init__(self, port: int) -> None:
        self.held = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._target = port
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._target))
        threading.Thread(target=_forward, args=(server, client, threading.Event()), daemon=True).start()
        _forward(client, server, self.held)
        self._listener.close()


def _forward(source: socket.socket, target: socket.socket, held: threading.Event) -> None:
    while data := source.recv(1 << 16):
        while held.is_set():
            time.sleep(0.005)
        target.sendall(data)
    target.close()


def muted(port: int, pcm: bytes) -> float:
    """Send the recording and stop; ms from the last message to the final."""
    with connect(f"ws://127.0.0.1:{port}/v1/stt/ws?call_id=muted&sample_rate=16000") as client:
        for at in _paced(pcm):
            client.send(pcm[at : at + _FRAME])
        began = time.monotonic()
        while json.loads(client.recv(_RESULT_SECONDS))["type"] != "final":
            pass
        return (time.monotonic() - began) * 1000


def late_network(port: int, pcm: bytes, held_ms: int) -> Finals:
    """Say it through a network that is late for so long, and be silent; the finals up to the endpoint's."""
    proxy = Proxy(port)
    with connect(f"ws://127.0.0.1:{proxy.port}/v1/stt/ws?call_id=late&sample_rate=16000") as client:
        for at in _paced(pcm + bytes(2 * held_ms * 32 + 64_000)):
            if at == _HELD_FROM_MS // 20 * _FRAME:
                proxy.held.set()
                threading.Timer(held_ms / 1000, proxy.held.clear).start()
            client.send((pcm[at : at + _FRAME]).ljust(_FRAME, b"\0"))
        finals: Finals = []
        while not finals or finals[-1]["reason"] != "endpoint":
            message = json.loads(client.recv(_RESULT_SECONDS))
            finals += [message] if message["type"] == "final" else []
        return finals


def _paced(pcm: bytes) -> Iterator[int]:
    began = time.monotonic()
    for at in range(0, len(pcm), _FRAME):
        time.sleep(max(0.0, began + at / 32_000 - time.monotonic()))
        yield at


@contextmanager
def page_server(pcm: bytes) -> Iterator[tuple[int, queue.Queue[Finals]]]:
    """Serves the page and the audio; its port, and what pages report."""
    reports: queue.Queue[Finals] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pcm if self.path == "/pcm" else _PAGE.read_bytes()
            self._answer(body)

        def do_POST(self) -> None:
            reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], reports
        server.shutdown()


def busy_page(browser: str, port: int, page_port: int, reports: queue.Queue[Finals], held_ms: int) -> Finals:
    """Say it from a page in the browser whose script is held up; the finals up to the endpoint's."""
    query = urlencode({"ws": f"ws://127.0.0.1:{port}/v1/stt/ws", "held_from": _HELD_FROM_MS, "held_ms": held_ms})
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            [browser, *options, f"http://127.0.0.1:{page_port}/?{query}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return reports.get(timeout=_RESULT_SECONDS)
        finally:
            process.terminate()
            process.wait()


def row(case: str, held_ms: int, runs: Sequence[Finals]) -> Row:
    """A line of the table; an utterance that was not cut has one final."""
    return {"case": case, "held_ms": held_ms, "cut": f"{sum(len(each) > 1 for each in runs)}/{len(runs)}", "ms": None}


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    made = parser("endpoints stalls", __doc__)
    made.add_argument("--rounds", type=int, default=5, help="of each case (5)")
    made.add_argument("--held", type=integers, default=[1000], help="ms that the page's script is held up (1000)")
    made.add_argument("--browser", default=shutil.which("chromium") or "", help="Chromium; empty: not measured")
    given = made.parse_args(arguments)
    settings = server_settings("mock", 64, [*given.set, "ALLOWED_ORIGINS=*"])
    ran = conditions("endpoints stalls", settings)
    with wave.open(str(ROOT / "references" / "weather.wav")) as recording:
        pcm = recording.readframes(recording.getnframes())
    rounds, rows = range(given.rounds), list[Row]()
    progress = Progress(2 + len(given.held) * bool(given.browser))
    with ServerProcess(APP, settings, os.sched_getaffinity(0)) as server, page_server(pcm) as (page_port, reports):
        progress.step("muted")
        times = [muted(server.port, pcm) for _ in rounds]
        rows.append({"case": "muted", "held_ms": None, "cut": None, "ms": round(median(times) or 0)})
        progress.step("network")
        rows.append(row("network", 2000, [late_network(server.port, pcm, 2000) for _ in rounds]))
        for held in given.held if given.browser else []:
            progress.step(f"browser {held} ms")
            runs = [busy_page(given.browser, server.port, page_port, reports, held) for _ in rounds]
            rows.append(row("browser", held, runs))
    print(table(rows))
    write_json(given.json, ran | {"rows": rows})
