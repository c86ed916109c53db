"""The server's own cost: CPU per second of audio per stream with the mock backend, beside a bare socket.

Server and bare socket share one pinned core under the same uvicorn options and take turns: one is stopped while all
streams speak to the other, a few seconds each, so that a machine that becomes slow is slow for both. The load generator
has another core. CPU is that of the whole process over a window in which all streams speak, divided by the seconds of
audio sent in it. Speech fills three quarters of the time. With --connect-rate it measures how many connections a
second are opened, greeted and closed instead, by a fresh process each time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import connects
from bench.audio import Loop, load
from bench.cost import SATURATED, CostMeter, Sample
from bench.load import CONNECT_AT_ONCE
from bench.report import Progress, conditions, finish, integers, parser, rounded, table
from bench.server import ROOT, TARGETS, Server, silence_ms, stt_settings
from bench.stats import median, summary
from bench.wheel import run

SPEECH = 0.75
PRE_ROLL_MS = 300
"""Audio of an utterance before its voice."""

NOTES = """\
ratio        the median of the rounds' own ratios; ratios: the least and the most
cpu_ms       ms of CPU per second of audio of one stream; loop_cpu_ms is the event loop's part of it
wake_ups     times a second that a thread of the server slept and was woken, for each stream
bare_waited  part of the time that the bare socket's thread was ready and something else had its core
endpoint     to final, as the clients saw it: medians of the rounds' own percentiles; p99s: the least and the most
rss_kb       resident memory per stream beyond the idle server, in 1000 bytes (most seen), open utterances included
gen          the generator: lateness of its messages, and its part of a core
valid        rounds in which generator and server kept up; medians are of these"""


def main() -> None:
    """Run the command."""
    made = parser("overhead", __doc__)
    cores = sorted(os.sched_getaffinity(0))
    made.add_argument("--streams", type=integers, default=[50, 100, 200, 300], metavar="N,N", help="50,100,200,300")
    made.add_argument("--rounds", type=int, default=5, help="bare socket and server in turn, so often (5)")
    made.add_argument("--seconds", type=float, default=6.0, help="length of a window (6)")
    made.add_argument("--warm", type=float, default=3.0, help="seconds of speech before it (3)")
    made.add_argument("--server-core", type=int, default=cores[0], help="the server's only core (the first)")
    made.add_argument("--load-core", type=int, default=cores[-1], help="the generator's only core (the last)")
    made.add_argument("--against", type=Path, metavar="DIR", help="a checkout of another version, as the bare socket")
    made.add_argument("--connect-rate", action="store_true", help="connections a second instead")
    given = made.parse_args()
    os.sched_setaffinity(0, {given.load_core})
    settings = stt_settings("mock", max(*given.streams, CONNECT_AT_ONCE) + 8, given.set)
    ran = conditions("overhead", settings, server=[given.server_core], load=[given.load_core])
    if given.connect_rate:
        result = connection_rate(given.rounds, given.seconds, given.server_core, settings)
    else:
        silence = silence_ms(settings)
        loop = Loop.of([clip for clip in load(ROOT / "references") if clip.single], SPEECH, silence + 100)
        bar = Progress(len(given.streams) * given.rounds * len(TARGETS))
        meter = CostMeter(loop, given.rounds, given.seconds, given.warm, given.seed, silence, bar)
        served = {target: (module, ROOT) for target, module in TARGETS.items()}
        if given.against:
            served["bare"] = TARGETS["server"], given.against
        samples = measure_all(meter, given.streams, given.server_core, settings, served)
        if given.against:
            print(f"'bare' is the server in {given.against}")
        result = stream_cost(samples, loop, loop.open_bytes(PRE_ROLL_MS, silence) / 1000)
    if given.server_core == given.load_core:
        print("THE GENERATOR SHARED THE SERVER'S CORE: the numbers are not the server's alone")
    finish(given.json, ran | result)


def measure_all(
    meter: CostMeter,
    levels: Sequence[int],
    core: int,
    settings: Mapping[str, str],
    served: Mapping[str, tuple[str, Path]],
) -> list[Sample]:
    """Every number of streams; bare socket and server in turn. `served`: each one's module and checkout."""
    samples = []
    for streams in levels:
        with ExitStack() as stack:
            servers = {
                target: stack.enter_context(Server(module, settings, [core], root=root))
                for target, (module, root) in served.items()
            }
            samples += run(meter.measure(servers, streams))
    meter.bar.end()
    return samples


def stream_cost(samples: Sequence[Sample], loop: Loop, open_kb: float) -> dict[str, Any]:
    """Print the table; returns what goes into the JSON; `open_kb`: mean audio of an open utterance, 1000 bytes."""
    rows = [summarise(samples, streams) for streams in sorted({sample.streams for sample in samples})]
    warnings = warn(samples)
    print(table(rows))
    print(f"\n{NOTES}\nSpeech {loop.speech:.0%} of the time; an open utterance holds {open_kb:.0f} kB on average.")
    for warning in warnings:
        print(warning)
    return {
        "speech": round(loop.speech, 3),
        "open_utterance_kb": round(open_kb, 1),
        "rows": rows,
        "warnings": warnings,
        "samples": [asdict(each) | {"valid": each.valid} for each in samples],
    }


def summarise(samples: Sequence[Sample], streams: int) -> dict[str, Any]:
    """Medians over the valid rounds (over all where none is) at one number of streams."""
    here = [each for each in samples if each.streams == streams]
    rounds = list(zip(*([each for each in here if each.target == target] for target in TARGETS), strict=True))
    rounds = [pair for pair in rounds if all(each.valid for each in pair)] or rounds
    bare, mine = zip(*rounds, strict=True)
    ratios = [served.cpu_ms / plain.cpu_ms for plain, served in rounds]
    waits = [summary(each.endpoint_ms) for each in mine if each.endpoint_ms]
    p50s, p99s = ([float(wait[name] or 0) for wait in waits] for name in ("p50", "p99"))
    return {
        "streams": streams,
        "bare_cpu_ms": rounded(median([each.cpu_ms for each in bare])),
        "server_cpu_ms": rounded(median([each.cpu_ms for each in mine])),
        "ratio": rounded(median(ratios)),
        "ratios": f"{min(ratios):.2f}-{max(ratios):.2f}",
        "loop_cpu_ms": rounded(median([each.loop_cpu_ms for each in mine])),
        "wake_ups": rounded(median([each.wake_ups for each in mine]), 1),
        "bare_waited": rounded(median([each.loop_waited for each in bare])),
        "server_core": rounded(median([each.core for each in mine])),
        "endpoint_p50_ms": rounded(median(p50s), 1),
        "endpoint_p99_ms": rounded(median(p99s), 1),
        "endpoint_p99s_ms": f"{min(p99s):.0f}-{max(p99s):.0f}" if p99s else "",
        "finals": sum(len(each.endpoint_ms) for each in mine),
        "dropped": sum(each.dropped for each in here),
        "errors": sum(len(each.errors) for each in here),
        "rss_kb": rounded(median([each.rss_kb_per_stream for each in mine]), 0),
        "bare_rss_kb": rounded(median([each.rss_kb_per_stream for each in bare]), 0),
        "threads": rounded(median([each.threads_per_stream for each in mine])),
        "gen_late_p99_ms": max(float(each.generator["late_p99_ms"] or 0) for each in here),
        "gen_cpu": max(float(each.generator["cpu"] or 0) for each in here),
        "valid": f"{sum(each.valid for each in here)}/{len(here)}",
    }


def warn(samples: Sequence[Sample]) -> list[str]:
    """What makes a number doubtful."""
    told = []
    for each in samples:
        name = f"{each.target} at {each.streams} streams"
        if each.generator["was_the_limit"]:
            late, cpu = each.generator["late_p99_ms"], each.generator["cpu"]
            told.append(f"THE GENERATOR WAS THE LIMIT: {name} (late p99 {late} ms, CPU {cpu} of its core)")
        if each.core >= SATURATED:
            told.append(f"SATURATED: {name} took {each.core:.2f} of its core; it did not keep up")
        told += [f"ERROR: {name}: {error}" for error in sorted(set(each.errors))]
    return told


def connection_rate(rounds: int, seconds: float, core: int, settings: Mapping[str, str]) -> dict[str, Any]:
    """Measure and print; returns what goes into the JSON."""
    samples = connects.measure(rounds, seconds, core, settings)
    rows = connects.summarise(samples)
    print(table(rows))
    warnings = connects.warn(samples)
    print(f"\nConnect, ready, close, at most {CONNECT_AT_ONCE} open: connections a second, median of the valid rounds.")
    print("cpu_ratio: bare socket's CPU for a connection by the server's, which a busy machine disturbs less.")
    for warning in warnings:
        print(warning)
    return {"rows": rows, "warnings": warnings, "samples": [asdict(each) for each in samples]}


if __name__ == "__main__":
    main()
