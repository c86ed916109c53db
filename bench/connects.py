"""How many connections a second a server opens, greets and closes; used by `bench.overhead --connect-rate`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.load import CONNECT_AT_ONCE, Refused, connect
from bench.report import Progress
from bench.server import TARGETS, Server
from bench.stats import median
from bench.wheel import MAX_CPU, run

BUSY = 0.9
"""Part of its core that a server takes at least when it is the limit."""
_WARM_CONNECTIONS = 32
_SETTLE_SECONDS = 3.0
"""For the last connections' threads to end."""


@dataclass(slots=True)
class Sample:
    """One server for one window."""

    target: str
    """`bare` or `server`."""
    per_second: float
    """Connections opened, greeted (by the server only: the bare socket says nothing) and closed."""
    cpu_ms: float
    """ms of the server's CPU for each."""
    core: float
    """Part of its core that the server took."""
    generator_cpu: float
    """Part of its core that the generator took."""
    left_threads: int
    """Threads more than before, after the window."""
    errors: list[str] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        """Whether the server was the limit, and nothing failed."""
        return self.core >= BUSY and self.generator_cpu <= MAX_CPU and not self.errors


class _Visitors:
    """Connects and leaves, `CONNECT_AT_ONCE` at a time."""

    def __init__(self, port: int, *, greeted: bool) -> None:
        self.done = 0
        self.errors: list[str] = []
        self._port = port
        self._greeted = greeted

    async def come(self, seconds: float, at_most: int = 1 << 30) -> None:
        """Until `seconds` are over or `at_most` have been there."""
        until = time.monotonic() + seconds

        async def one_after_another() -> None:
            while time.monotonic() < until and self.done < at_most:
                await self._visit()

        await asyncio.gather(*(one_after_another() for _ in range(CONNECT_AT_ONCE)))

    async def _visit(self) -> None:
        try:
            speaker = await connect(self._port, iter(()), greeted=self._greeted)
            await speaker.leave()
        except (Refused, TimeoutError, OSError) as error:
            self.errors.append(f"{type(error).__name__} {error}")
        else:
            self.done += 1


async def _measure(server: Server, target: str, seconds: float) -> Sample:
    await _Visitors(server.port, greeted=target == "server").come(seconds, _WARM_CONNECTIONS)
    threads = server.threads()
    visitors = _Visitors(server.port, greeted=target == "server")
    began, cpu, own = time.monotonic(), server.cpu_seconds(), time.process_time()
    await visitors.come(seconds)
    passed, spent, own = time.monotonic() - began, server.cpu_seconds() - cpu, time.process_time() - own
    until = time.monotonic() + _SETTLE_SECONDS
    while (left := server.threads() - threads) > 0 and time.monotonic() < until:  # noqa: ASYNC110 - /proc tells nobody
        await asyncio.sleep(0.05)
    return Sample(
        target=target,
        per_second=visitors.done / passed,
        cpu_ms=spent * 1000 / max(1, visitors.done),
        core=spent / passed,
        generator_cpu=own / passed,
        left_threads=left,
        errors=visitors.errors,
    )


def measure(rounds: int, seconds: float, core: int, settings: Mapping[str, str]) -> list[Sample]:
    """Bare socket and server in turn, a fresh process each time."""
    bar = Progress(2 * rounds)
    samples = []
    for number in range(rounds):
        for target, module in TARGETS.items():
            bar.step(f"connections to {target}, round {number + 1}")
            with Server(module, settings, [core]) as server:
                samples.append(run(_measure(server, target, seconds)))
    bar.end()
    return samples


def summarise(samples: list[Sample]) -> list[dict[str, Any]]:
    """Medians over the valid rounds (over all where none is), and the ratio of the medians."""
    of = {target: [each for each in samples if each.target == target] for target in TARGETS}
    of = {target: [each for each in mine if each.valid] or mine for target, mine in of.items()}
    rate = {target: median([each.per_second for each in mine]) or 0.0 for target, mine in of.items()}
    cost = {target: median([each.cpu_ms for each in mine]) or 0.0 for target, mine in of.items()}
    return [
        {
            "bare_per_second": round(rate["bare"]),
            "server_per_second": round(rate["server"]),
            "ratio": round(rate["server"] / rate["bare"], 3) if rate["bare"] else None,
            "bare_cpu_ms": round(cost["bare"], 2),
            "server_cpu_ms": round(cost["server"], 2),
            "cpu_ratio": round(cost["bare"] / cost["server"], 3) if cost["server"] else None,
            "errors": sum(len(each.errors) for each in samples),
            "left_threads": max(each.left_threads for each in samples),
            "least_core": round(min(each.core for each in samples), 2),
            "gen_cpu": round(max(each.generator_cpu for each in samples), 2),
            "valid": f"{sum(each.valid for each in samples)}/{len(samples)}",
        }
    ]


def warn(samples: list[Sample]) -> list[str]:
    """What makes the rates doubtful."""
    told = set()
    for each in samples:
        if each.generator_cpu > MAX_CPU:
            told.add(f"THE GENERATOR WAS THE LIMIT: {each.target}")
        elif each.core < BUSY:
            told.add(
                f"SOMETHING ELSE WAS THE LIMIT: {each.target} had {each.core:.2f} of its core; trust cpu_ratio only"
            )
        told.update(f"ERROR: {each.target}: {error}" for error in each.errors)
    return sorted(told)
