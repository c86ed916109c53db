"""How many live speakers a server carries: more and more of them until it no longer keeps its service level.

A level is a number of paced live streams, on a fresh server. It is passed when the 95th percentile of endpoint ->
final, seen from the client's side, is at most --slo-ms, nothing was dropped and nothing failed. Without --levels the
number doubles until a level fails, then the knee is bisected. Endpoint -> final runs from sending the frame whose last
sample completes STT_VAD_SILENCE_MS of silence to receiving the final. Lag behind live is audio sent minus audio heard
by the server, per stream.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import wer
from bench.audio import FRAMES_PER_SECOND, Disc, Playlist, load
from bench.conversation import word_errors
from bench.report import Progress, conditions, finish, integers, parser, table
from bench.server import ROOT, TARGETS, Server, heard_seconds, silence_ms, stt_settings
from bench.stats import median, summary
from bench.talk import Look, Talk, nothing, talk, times_of
from bench.wheel import Wheel, run

CLOSE_ENOUGH = 1.1
"""The knee is found when the lowest failed level is at most so many times the highest passed one."""
WARM_UP_SPEED = 8.0
GAP_MS = 1000
"""Silence after every recording."""
_PROGRESS_STEPS = 12
"""About as many levels as an automatic ramp has."""


def next_level(passed: Mapping[int, bool], most: int) -> int | None:
    """Which number of streams to try next, given which levels were passed; None: the knee is found."""
    good = max((level for level, fine in passed.items() if fine), default=0)
    bad = min((level for level, fine in passed.items() if not fine), default=None)
    if bad is None:
        following = min(max(1, good * 2), most)
        return following if following > good else None
    if bad - good <= 1 or bad <= good * CLOSE_ENOUGH:
        return None
    return (good + bad) // 2


@dataclass(slots=True)
class Watch:
    """What is sampled about once a second while the streams speak."""

    server: Server
    bar: Progress
    streams: int
    idle_rss: int
    heard_before: float
    """Seconds of audio heard before the streams came."""
    lag_ms: list[float] = field(default_factory=list)
    """Audio sent and not yet heard, ms per stream."""
    rss: list[int] = field(default_factory=list)

    async def look(self, wheel: Wheel, part: float) -> None:
        """Take a sample; `part` of the level is over."""
        sent = wheel.mark().frames / FRAMES_PER_SECOND
        heard = heard_seconds(await asyncio.to_thread(self.server.metrics)) - self.heard_before
        self.lag_ms.append(max(0.0, sent - heard) * 1000 / self.streams)
        self.rss.append(self.server.rss_bytes())
        self.bar.part(part)

    @property
    def rss_kb(self) -> float:
        """Most memory seen, per stream beyond the idle server, in 1000 bytes."""
        return (max(self.rss) - self.idle_rss) / 1000 / self.streams


@dataclass(frozen=True, slots=True)
class Ramp:
    """One run's fixed parts."""

    settings: Mapping[str, str]
    cores: list[int]
    disc: Disc
    language: str
    seconds: float
    """Of each level's window."""
    warm_seconds: float
    slo_ms: float
    seed: int

    @property
    def total_seconds(self) -> float:
        """Of a level: behind the window the load stays on while the window's finals come."""
        return self.warm_seconds + self.seconds + max(2.0, self.slo_ms / 500)

    def level(self, streams: int, bar: Progress) -> dict[str, Any]:
        """Measure one number of streams on a fresh server."""
        with Server(TARGETS["server"], self.settings, self.cores) as server:
            return self.measure(server, streams, bar)

    def measure(self, server: Server, streams: int, bar: Progress, look: Look = nothing) -> dict[str, Any]:
        """Measure one number of streams on this server; `look` watches as well."""
        bar.step(f"{streams} streams")
        run(self._warm_up(server))
        watch = Watch(server, bar, streams, server.rss_bytes(), heard_seconds(server.metrics()))
        cpu = server.cpu_seconds()
        said = run(self._talk(server, streams, watch, look))
        cpu = server.cpu_seconds() - cpu
        audio = sum(playlist.seconds for playlist in said.playlists)
        return self._judge(streams, said, watch) | {"cpu_ms": round(cpu * 1000 / audio, 2)}

    async def _warm_up(self, server: Server) -> None:
        """One recording, so that what is loaded on first use counts as idle."""
        first = self.disc.play(self.disc.clips[:1], GAP_MS)
        await self._play(server, [first], nothing, WARM_UP_SPEED)

    async def _talk(self, server: Server, streams: int, watch: Watch, look: Look) -> Talk:
        dice = random.Random(self.seed * 1000 + streams)  # noqa: S311 - reproducible, not secret
        playlists = [self.disc.endless(self.total_seconds, GAP_MS, dice) for _ in range(streams)]

        async def both(wheel: Wheel, part: float) -> None:
            await watch.look(wheel, part)
            await look(wheel, part)

        return await self._play(server, playlists, both)

    async def _play(self, server: Server, playlists: Sequence[Playlist], look: Look, speed: float = 1.0) -> Talk:
        silence = silence_ms(self.settings)
        return await talk(
            server, playlists, silence_ms=silence, language=self.language, seed=self.seed, look=look, speed=speed
        )

    def _judge(self, streams: int, said: Talk, watch: Watch) -> dict[str, Any]:
        begin = self.warm_seconds * 1000
        counted = said.utterances(begin, begin + self.seconds * 1000)
        times = {name: summary(values) for name, values in times_of(counted).items()}
        p95 = times["endpoint_ms"]["p95"]
        return {
            "streams": streams,
            "passed": p95 is not None and p95 <= self.slo_ms and not said.dropped and not said.errors,
            **times,
            "lag_p50_ms": round(median(watch.lag_ms) or 0),
            "lag_max_ms": round(max(watch.lag_ms)),
            "while_speaking": round(sum(each.while_speaking for each in counted) / max(1, len(counted)), 3),
            "rss_kb": round(watch.rss_kb),
            "wer": wer.describe(word_errors(part.clip, heard) for part, heard in said.parts() if part.clip.text),
            "dropped": said.dropped,
            "errors": said.errors,
            "generator": said.generator,
        }


def row(level: Mapping[str, Any]) -> dict[str, object]:
    """A level in the table."""
    return {
        "streams": level["streams"],
        "ok": "yes" if level["passed"] else "NO",
        "finals": level["endpoint_ms"]["count"],
        "endpoint p50": level["endpoint_ms"]["p50"],
        "p95": level["endpoint_ms"]["p95"],
        "p99": level["endpoint_ms"]["p99"],
        "latency_ms p50": level["latency_ms"]["p50"],
        "p95 ": level["latency_ms"]["p95"],
        "p99 ": level["latency_ms"]["p99"],
        "partial p50": level["first_partial_ms"]["p50"],
        "p95  ": level["first_partial_ms"]["p95"],
        "lag p50": level["lag_p50_ms"],
        "max": level["lag_max_ms"],
        "wer": level["wer"]["wer"],
        "words": level["wer"]["words"],
        "rss_kb": level["rss_kb"],
        "cpu_ms": level["cpu_ms"],
        "dropped": level["dropped"],
        "errors": len(level["errors"]),
        "gen": "LIMIT" if level["generator"]["was_the_limit"] else "ok",
    }


Measure = Callable[[int, Progress], dict[str, Any]]
"""Measures one number of streams: what it returns has `streams` and `passed`."""


def climb(measure: Measure, levels: list[int] | None, most: int) -> list[dict[str, Any]]:
    """Measure the levels given, or those that lead to the knee; in the order of streams."""
    bar = Progress(len(levels) if levels else _PROGRESS_STEPS)
    measured: list[dict[str, Any]] = []
    asked = iter(levels) if levels else None
    while True:
        passed = {each["streams"]: bool(each["passed"]) for each in measured}
        streams = next(asked, None) if asked else next_level(passed, most)
        if streams is None:
            bar.end()
            return sorted(measured, key=lambda level: int(level["streams"]))
        measured.append(measure(streams, bar))


def main() -> None:
    """Run the command."""
    made = parser("ramp", __doc__)
    made.add_argument("--backend", default="mock", help="engine (mock)")
    made.add_argument("--levels", type=integers, metavar="N,N", help="numbers of streams; else the knee is looked for")
    made.add_argument("--most", type=int, default=512, help="streams to try at most (512)")
    made.add_argument("--slo-ms", type=float, default=500.0, help="p95 of endpoint -> final at most (500)")
    made.add_argument("--seconds", type=float, default=30.0, help="length of a level's window (30)")
    made.add_argument("--warm", type=float, default=5.0, help="seconds of speech before it (5)")
    made.add_argument("--folder", type=Path, default=ROOT / "references", help="recordings (references/)")
    made.add_argument("--language", help="play recordings of this language only, and ask for it")
    cores = sorted(os.sched_getaffinity(0))
    made.add_argument("--cores", type=lambda text: [int(each) for each in text.split(",")], default=cores,
                      metavar="N,N", help="the server's cores, counted from 0 (all)")  # fmt: skip
    given = made.parse_args()
    settings = stt_settings(given.backend, max([given.most, *(given.levels or [])]) + 8, given.set)
    disc = Disc(load(given.folder, given.language, single=True))
    ramp = Ramp(settings, given.cores, disc, given.language or "auto", given.seconds, given.warm,
                given.slo_ms, given.seed)  # fmt: skip
    ran = conditions("ramp", settings, server=given.cores, load=cores)
    levels = climb(ramp.level, given.levels, given.most)
    capacity = capacity_of(levels)
    print(table([row(level) for level in levels]))
    print(f"\nTimes in ms. Capacity with p95 of endpoint -> final <= {given.slo_ms:g} ms: {capacity} streams.")
    for level in levels:
        for error in sorted(set(level["errors"])):
            print(f"ERROR at {level['streams']} streams: {error}")
        if level["generator"]["was_the_limit"]:
            print(f"THE GENERATOR WAS THE LIMIT at {level['streams']} streams: {level['generator']}")
    finish(given.json, ran | {"slo_ms": given.slo_ms, "capacity": capacity, "levels": levels})


def capacity_of(levels: list[dict[str, Any]]) -> int:
    """The highest level passed below the lowest one that failed; 0 if none was."""
    failed = min((level["streams"] for level in levels if not level["passed"]), default=float("inf"))
    return max((level["streams"] for level in levels if level["passed"] and level["streams"] < failed), default=0)


if __name__ == "__main__":
    main()
