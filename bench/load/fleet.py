"""Three servers behind HAProxy, with the mock engine and the client library: gaps, places and the proxy's CPU.

First table: all servers are restarted one after another under live streams, by each signal.

exact       number of utterances that came back once, in order and word for word, of how many
gaps        number of connections that were lost and replaced
p50 to max  ms from the loss of a connection until another server had taken the stream

Second table: CPU in ms for one second of audio of one stream in messages of 100 ms, its handshake included. The streams
connect to the servers directly, and through the proxy.

Third table: the servers admit different numbers of streams, their places, and more streams are opened than admitted.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.common.recordings import load
from bench.common.report import Row, argument_parser, print_progress, run_conditions, table, write_json
from bench.common.server_process import ROOT, cpu_seconds, server_settings
from bench.common.stats import percentile, rounded
from stt_client import AsyncClient, SttError
from tests.fleet.restarted_streams import converse_during
from tools.fleet.processes import SERVERS, Fleet, FleetPorts

EXCESS_STREAMS = 10  # number of streams that are opened beyond the capacity of the fleet
CONNECT_SECONDS = 4.0  # time until a stream without a place gives up


def measure_restarts(fleet: Fleet, streams: int, signal_number: signal.Signals) -> Row:
    """Restart all servers by the signal under live streams, and return the row of the table."""
    print_progress(f"restarts by {signal_number.name}")
    recordings = load(ROOT / "references", single=True)
    calls = asyncio.run(converse_during(lambda: fleet.restart_all(signal_number), [fleet.url], streams, recordings))
    gaps = [gap * 1000 for call in calls for gap in call.gaps]
    utterances = sum(len(call.spoken) for call in calls)
    exact_utterances = sum(len(call.spoken) for call in calls if call.exact)
    p50, p95, longest = (rounded(percentile(gaps, percent), 0) for percent in (50, 95, 100))
    return {
        "signal": signal_number.name,
        "streams": streams,
        "exact": f"{exact_utterances} of {utterances}",
        "gaps": len(gaps),
        "p50": p50,
        "p95": p95,
        "max": longest,
    }


def measure_cost(fleet: Fleet, streams: int, seconds: float, *, proxied: bool) -> Row:
    """Measure the CPU of the servers and the proxy during `seconds` of speech, and return the row of the table."""
    name = "HAProxy" if proxied else "direct"
    print_progress(f"cost: {name}")
    pids = [fleet.proxy_pid, *(server.process.pid for server in fleet.servers)]
    urls = [fleet.url] if proxied else [server.url for server in fleet.servers]
    cpu_before = {pid: cpu_seconds(pid) for pid in pids}
    recordings = load(ROOT / "references", single=True)
    calls = asyncio.run(converse_during(lambda: time.sleep(seconds), urls, streams, recordings))
    audio_seconds = sum(call.audio_seconds for call in calls)
    proxy, *servers = [1000 * (cpu_seconds(pid) - cpu_before[pid]) / audio_seconds for pid in pids]
    return {"path": name, "streams": streams, "servers_ms": rounded(sum(servers)), "proxy_ms": rounded(proxy)}


async def measure_admission(url: str, places: Sequence[int]) -> Row:
    """Open too many streams, hold those that are admitted until the others are refused, and return the row."""
    print_progress("places")
    all_answered, streams = asyncio.Event(), sum(places) + EXCESS_STREAMS
    admitted = refused = 0

    async def open_stream() -> None:
        nonlocal admitted, refused
        try:
            async with AsyncClient(url, connect_seconds=CONNECT_SECONDS).stream():
                admitted += 1
                await all_answered.wait()
        except SttError:
            refused += 1
        if admitted + refused == streams:
            all_answered.set()

    async with asyncio.TaskGroup() as group:
        for _ in range(streams):
            group.create_task(open_stream())
    return {"places": " + ".join(map(str, places)), "asked": streams, "placed": admitted, "refused": refused}


def main(argv: Sequence[str]) -> None:
    """Run the command."""
    parser = argument_parser("load fleet", __doc__)
    parser.add_argument("--streams", type=int, default=100, help="number of concurrent streams (100)")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of speech for the CPU table (10)")
    args = parser.parse_args(argv)
    settings = server_settings("mock", args.streams + 8, args.set)
    conditions = run_conditions("load fleet", settings)
    places = [args.streams // 6, args.streams // 3, args.streams // 2]
    unequal = [settings | {"STT_MAX_SESSIONS": str(each)} for each in places]
    with TemporaryDirectory(prefix="bench-") as folder:
        with Fleet(Path(folder), FleetPorts.free(), [settings] * SERVERS) as fleet:
            costs = [measure_cost(fleet, args.streams, args.seconds, proxied=proxied) for proxied in (False, True)]
            restarts = [measure_restarts(fleet, args.streams, each) for each in (signal.SIGTERM, signal.SIGKILL)]
        with Fleet(Path(folder), FleetPorts.free(), unequal) as fleet:
            admissions = [asyncio.run(measure_admission(fleet.url, places))]
    print("\n\n".join(map(table, (restarts, costs, admissions))))
    write_json(args, conditions | {"restarts": restarts, "cost": costs, "places": admissions})
