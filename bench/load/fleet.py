"""Three servers behind HAProxy, with the mock engine and the client library: gaps, places and the proxy's CPU.

First table: all servers are restarted one after another under live streams, by each signal.

exact       utterances that came back once, in order and word for word, of all
gaps        connections that were lost and replaced
p50 to max  ms from the loss of a connection until another server had taken the stream

Second table: CPU in ms for one second of audio of one stream in messages of 100 ms, its handshake included, to the
servers directly and through the proxy.

Third table: the servers have unequal places, and more streams are opened at once than there are places.
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

TOO_MANY = 10  # streams beyond the places
REFUSED_SECONDS = 4.0  # how long a stream without a place tries


def restarts(fleet: Fleet, streams: int, number: signal.Signals) -> Row:
    """Restart all servers by the signal under live streams."""
    print_progress(f"restarts by {number.name}")
    recordings = load(ROOT / "references", single=True)
    calls = asyncio.run(converse_during(lambda: fleet.restart_all(number), [fleet.url], streams, recordings))
    gaps = [gap * 1000 for call in calls for gap in call.gaps]
    utterances = sum(len(call.spoken) for call in calls)
    exact = sum(len(call.spoken) for call in calls if call.exact)
    p50, p95, longest = (rounded(percentile(gaps, percent), 0) for percent in (50, 95, 100))
    return {
        "signal": number.name,
        "streams": streams,
        "exact": f"{exact} of {utterances}",
        "gaps": len(gaps),
        "p50": p50,
        "p95": p95,
        "max": longest,
    }


def cost(fleet: Fleet, streams: int, seconds: float, *, proxied: bool) -> Row:
    """CPU of the servers and the proxy while streams speak for `seconds`."""
    name = "HAProxy" if proxied else "direct"
    print_progress(f"cost: {name}")
    pids = [fleet.proxy_pid, *(server.process.pid for server in fleet.servers)]
    urls = [fleet.url] if proxied else [server.url for server in fleet.servers]
    before = list(map(cpu_seconds, pids))
    recordings = load(ROOT / "references", single=True)
    calls = asyncio.run(converse_during(lambda: time.sleep(seconds), urls, streams, recordings))
    audio = sum(call.audio_seconds for call in calls)
    proxy, *servers = [1000 * (cpu_seconds(pid) - began) / audio for pid, began in zip(pids, before, strict=True)]
    return {"path": name, "streams": streams, "servers_ms": rounded(sum(servers)), "proxy_ms": rounded(proxy)}


async def fill(url: str, places: Sequence[int]) -> Row:
    """Open more streams at once than there are places, and hold those that got one until all others were refused."""
    print_progress("places")
    done, asked = asyncio.Event(), sum(places) + TOO_MANY
    placed = refused = 0

    async def one() -> None:
        nonlocal placed, refused
        try:
            async with AsyncClient(url, connect_seconds=REFUSED_SECONDS).stream():
                placed += 1
                await done.wait()
        except SttError:
            refused += 1
        if placed + refused == asked:
            done.set()

    async with asyncio.TaskGroup() as group:
        for _ in range(asked):
            group.create_task(one())
    return {"places": " + ".join(map(str, places)), "asked": asked, "placed": placed, "refused": refused}


def main(argv: Sequence[str]) -> None:
    """Run the command."""
    parser = argument_parser("load fleet", __doc__)
    parser.add_argument("--streams", type=int, default=100, help="streams at once (100)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of speech, for the CPU (10)")
    args = parser.parse_args(argv)
    settings = server_settings("mock", args.streams + 8, args.set)
    conditions = run_conditions("load fleet", settings)
    places = [args.streams // 6, args.streams // 3, args.streams // 2]
    unequal = [settings | {"STT_MAX_SESSIONS": str(each)} for each in places]
    with TemporaryDirectory(prefix="bench-") as folder:
        with Fleet(Path(folder), FleetPorts.free(), [settings] * SERVERS) as fleet:
            costs = [cost(fleet, args.streams, args.seconds, proxied=proxied) for proxied in (False, True)]
            restarted = [restarts(fleet, args.streams, number) for number in (signal.SIGTERM, signal.SIGKILL)]
        with Fleet(Path(folder), FleetPorts.free(), unequal) as fleet:
            filled = [asyncio.run(fill(fleet.url, places))]
    print("\n\n".join(map(table, (restarted, costs, filled))))
    write_json(args, conditions | {"restarts": restarted, "cost": costs, "places": filled})
