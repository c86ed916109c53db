"""Utterances whose audio stops for a while: a muted client, a stalled network, or a busy browser page.

muted: the client sends nothing after the last word; ms is the time from its last message to the final.
network: everything that the client sends, pongs included, is held up for held_ms in the middle of a word.
browser: the script of a page in Chromium is held up for held_ms in the middle of a word; the browser answers pings.
cut: number of utterances that were ended in the middle of the word, of how many.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.common.recordings import read_pcm
from bench.common.report import Row, argument_parser, integers, print_progress, print_report, run_conditions
from bench.common.server_process import APP, ROOT, ServerProcess, server_settings
from bench.common.stats import median
from protocol.pcm import BYTES_PER_SECOND
from tests.client import session
from tests.page.browser import CHROMIUM, Browser
from tests.transport.late_network import LateNetwork

_URL = "ws://127.0.0.1:{}/v1/stt/ws?call_id=bench&sample_rate=16000"
_STALL_START_MS = 1_200
"""This position is in the middle of the recording's speech."""
_NETWORK_STALL_MS = 2_000
_SCRIPT = """
new Promise((done) => {
  const pcm = Uint8Array.from(atob("%(pcm)s"), (each) => each.charCodeAt(0)).buffer, reasons = [];
  // A worker acts as the audio thread: it continues while this script is held up.
  const thread = new Worker(URL.createObjectURL(new Blob([`onmessage = ({data}) => {
    const began = performance.now();
    let sent = 0;
    setInterval(() => {
      for (; sent * 20 <= performance.now() - began; sent++) postMessage(sent);
    }, 5);
  };`])));
  const socket = new WebSocket("%(url)s");
  thread.onmessage = ({data: number}) => {
    if (number * 20 === %(stall_start)d)
      for (const began = performance.now(); performance.now() - began < %(stall_ms)d;);
    const message = pcm.slice(number * 640, number * 640 + 640);
    socket.send(message.byteLength ? message : new ArrayBuffer(640));
  };
  socket.onmessage = ({data}) => {
    const message = JSON.parse(data);
    if (message.type === "final") reasons.push(message.reason);
    if (message.reason === "endpoint") { socket.close(); thread.terminate(); done(reasons); }
  };
  socket.onopen = () => thread.postMessage(0);
})"""


def time_to_final(port: int, pcm: bytes) -> float:
    """Send the recording without silence after it, and return the ms from the last message to the final."""
    with session(_URL.format(port)) as client:
        client.speak(pcm)
        sent = time.monotonic()
        client.until("final")
        return (time.monotonic() - sent) * 1000


def stall_network(port: int, pcm: bytes) -> list[str]:
    """Send the recording through a network that stalls, and return the reasons of the finals."""
    half = len(pcm) // 4 * 2
    with LateNetwork(_URL.format(port)) as client:
        client.send(pcm[:half])
        client.wait_for_pings(_NETWORK_STALL_MS / 1000)
        client.send(pcm[half:] + bytes(BYTES_PER_SECOND))
        reasons = [client.final()["reason"]]
        while reasons[-1] != "endpoint":
            reasons.append(client.final()["reason"])
        return reasons


def stall_page(port: int, pcm: bytes, stall_ms: int) -> list[str]:
    """Send the recording from a page whose script is held up, and return the reasons of the finals."""
    parameters = {"pcm": base64.b64encode(pcm).decode(), "url": _URL.format(port), "stall_start": _STALL_START_MS}
    with TemporaryDirectory() as folder, Browser(Path(folder)) as browser:
        reasons: list[str] = browser.evaluate(_SCRIPT % (parameters | {"stall_ms": stall_ms}))
        return reasons


def row(case: str, stall_ms: int, runs: Sequence[list[str]]) -> Row:
    """Return a row of the table. An utterance that was not cut has one final."""
    return {"case": case, "held_ms": stall_ms, "cut": f"{sum(len(each) > 1 for each in runs)}/{len(runs)}", "ms": None}


def main(argv: Sequence[str]) -> None:
    """Run the command."""
    parser = argument_parser("endpoints stalls", __doc__)
    parser.add_argument("--rounds", type=int, default=5, help="utterances of each case (5)")
    parser.add_argument("--held", type=integers, default=[1000], help="ms that the page's script is held up (1000)")
    args = parser.parse_args(argv)
    settings = server_settings("mock", 64, [*args.set, "ALLOWED_ORIGINS=*"])
    conditions = run_conditions("endpoints stalls", settings)
    pcm = read_pcm(ROOT / "references" / "weather.wav")
    rounds, rows = range(args.rounds), list[Row]()
    with ServerProcess(APP, settings, os.sched_getaffinity(0)) as server:
        print_progress("muted")
        times = [time_to_final(server.port, pcm) for _ in rounds]
        rows.append({"case": "muted", "held_ms": None, "cut": None, "ms": round(median(times) or 0)})
        print_progress("network")
        rows.append(row("network", _NETWORK_STALL_MS, [stall_network(server.port, pcm) for _ in rounds]))
        for stall_ms in args.held if CHROMIUM else []:
            print_progress(f"browser {stall_ms} ms")
            rows.append(row("browser", stall_ms, [stall_page(server.port, pcm, stall_ms) for _ in rounds]))
    print_report(args, conditions, rows, [] if CHROMIUM else ["browser: not measured, Chromium is not installed"])
