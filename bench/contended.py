"""Endpoint to final, and CPU, of a server whose cores are kept busy by other processes; beside another version of it.

A process that never rests runs on each core, and the server may use all of them. With --against, two versions take
turns, one stopped while the other is spoken to. Server and busy processes run at one niceness; the load generator has
the best, so that what is measured is not its own lateness. Mock backend, live 20 ms frames.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.audio import Loop, load
from bench.cost import CostMeter, Sample
from bench.overhead import SPEECH
from bench.report import Progress, conditions, finish, integers, parser, rounded, table
from bench.server import ROOT, TARGETS, Server, silence_ms, stt_settings
from bench.stats import median, summary
from bench.wheel import run

NICENESS = 5
"""Of the server and of the busy processes, above the load generator's."""


def main() -> None:
    """Run the command."""
    made = parser("contended", __doc__)
    cores = sorted(os.sched_getaffinity(0))
    made.add_argument("--streams", type=integers, default=[20, 100, 150, 200], metavar="N,N", help="20,100,150,200")
    made.add_argument("--rounds", type=int, default=2, help="windows of each version (2)")
    made.add_argument("--seconds", type=float, default=6.0, help="length of a window (6)")
    made.add_argument("--warm", type=float, default=3.0, help="seconds of speech before it (3)")
    made.add_argument("--busy", type=int, default=len(cores), help="processes that never rest (one for each core)")
    made.add_argument("--against", type=Path, metavar="DIR", help="a checkout of another version")
    given = made.parse_args()
    settings = stt_settings("mock", max(given.streams) + 8, given.set)
    versions = ({"before": given.against} if given.against else {}) | {"server": ROOT}
    silence = silence_ms(settings)
    loop = Loop.of([clip for clip in load(ROOT / "references") if clip.single], SPEECH, silence + 100)
    bar = Progress(len(given.streams) * given.rounds * len(versions))
    meter = CostMeter(loop, given.rounds, given.seconds, given.warm, given.seed, silence, bar)
    ran = conditions("contended", settings, server=cores, load=cores)
    samples: list[Sample] = []
    for streams in given.streams:
        with ExitStack() as stack:
            servers = {}
            for version, root in versions.items():
                server = Server(TARGETS["server"], settings, cores, root=root)
                os.setpriority(os.PRIO_PROCESS, server.pid, NICENESS)  # its threads inherit it
                servers[version] = stack.enter_context(server)
            stack.enter_context(busy([cores[number % len(cores)] for number in range(given.busy)]))
            samples += run(meter.measure(servers, streams))
    bar.end()
    rows = [summarise(samples, version, streams) for streams in given.streams for version in versions]
    print(table(rows))
    print("\np50, p95, p99: endpoint to final as the clients saw it, over all windows; p95s: of each window.")
    print("cpu_ms: of the server's process for a second of audio of one stream; gen_late: p99 of the generator, ms.")
    finish(given.json, ran | {"rows": rows, "samples": [asdict(each) for each in samples]})


@contextmanager
def busy(cores: Sequence[int]) -> Iterator[None]:
    """A process that never rests on each of these cores while the context lasts."""
    spinning = [multiprocessing.get_context("spawn").Process(target=_spin, args=(core,), daemon=True) for core in cores]
    for process in spinning:
        process.start()
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.join()


def _spin(core: int) -> None:
    os.sched_setaffinity(0, {core})
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    while True:
        pass


def summarise(samples: Sequence[Sample], version: str, streams: int) -> dict[str, Any]:
    """One version at one number of streams."""
    here = [each for each in samples if (each.target, each.streams) == (version, streams)]
    waits = summary([wait for each in here for wait in each.endpoint_ms])
    return {
        "streams": streams,
        "version": version,
        "finals": waits["count"],
        "p50": waits["p50"],
        "p95": waits["p95"],
        "p99": waits["p99"],
        "p95s": " ".join(f"{summary(each.endpoint_ms)['p95'] or 0:.0f}" for each in here),
        "cpu_ms": rounded(median([each.cpu_ms for each in here])),
        "loop_cpu_ms": rounded(median([each.loop_cpu_ms for each in here])),
        "wake_ups": rounded(median([each.wake_ups for each in here]), 1),
        "dropped": sum(each.dropped for each in here),
        "errors": sum(len(each.errors) for each in here),
        "gen_late": max(float(each.generator["late_p99_ms"] or 0) for each in here),
    }


if __name__ == "__main__":
    main()
