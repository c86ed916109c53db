"""Plays live speech to a server, and measures a level of load: its CPU, memory and delays with a number of streams."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

from bench.common import transcript, word_error_rate
from bench.common.paced_sender import GeneratorLoad, PacedSender, sending
from bench.common.recordings import FRAMES_PER_SECOND, Part, Playlist, Recording, in_order, shuffled
from bench.common.server_process import ServerProcess, Usage
from bench.common.stats import Summary, summary
from bench.common.transcript import Utterance, word_errors
from bench.common.websocket_client import commit_all, connected

LAST_FINAL_SECONDS = 60.0  # longest wait for the final of the commit that ends each playlist
SETTLE_SECONDS = 2.0  # the load stays on behind the window while the finals of the window arrive
_WARM_UP_SPEED = 8.0
_DROPPED = "stt_dropped_messages_total"


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What all speakers sent and received."""

    playlists: Sequence[Playlist]
    spoken: Sequence[Sequence[Utterance]]  # of each speaker
    generator: GeneratorLoad
    dropped: int  # audio messages that the server dropped
    errors: Sequence[str]  # of all connections

    def problems(self) -> list[str]:
        """Reasons to doubt what was measured: errors, drops, and a generator that was the limit."""
        found = [f"ERROR: {error}" for error in sorted(set(self.errors))]
        found += [f"DROPPED: {self.dropped} messages"] * bool(self.dropped)
        return found + [f"THE GENERATOR WAS THE LIMIT: {self.generator}"] * self.generator.was_the_limit

    def utterances(self, begin_ms: float = 0, end_ms: float = float("inf")) -> list[Utterance]:
        """All utterances whose last voiced sample lies between two positions of their speaker's audio."""
        return [each for one in self.spoken for each in one if begin_ms <= each.final.end_ms < end_ms]

    def parts(self) -> list[tuple[Part, list[Utterance]]]:
        """Each recording that was played to its end, with its utterances."""
        groups = map(transcript.by_part, self.spoken, (each.parts for each in self.playlists))
        return [pair for group in groups for pair in group]


async def play(
    server: ServerProcess,
    playlists: Sequence[Playlist],
    *,
    language: str,
    seed: int,
    poll: Callable[[PacedSender, float], None] | None = None,
    speed: float = 1.0,
    silent_server: bool = False,
) -> LiveRun:
    """Play each playlist to its end on a connection of its own, then commit and wait for the last finals.

    Args:
        server: a server that admits so many connections.
        playlists: one for each speaker.
        language: the `language` parameter of the connections.
        seed: of the times within 20 ms at which the speakers send.
        poll: called about once a second with the sender and the seconds that have passed.
        speed: 1 is live.
        silent_server: the server sends nothing (the bare socket): do not wait for `ready`, nor for finals.
    """
    dropped_before = server.metric(_DROPPED)
    seconds = max(len(playlist.frames) for playlist in playlists) / FRAMES_PER_SECOND / speed
    frames = [iter(playlist.frames) for playlist in playlists]
    async with connected(server.port, frames, wait_for_message=not silent_server, language=language) as clients:
        sender = PacedSender(clients, seed, speed)
        async with sending(sender) as all_sent:
            began = time.monotonic()
            while (left := began + seconds - time.monotonic()) > 0:
                await asyncio.sleep(min(1.0, left))
                if poll is not None:
                    poll(sender, time.monotonic() - began)
            await all_sent
            load = sender.load()
        missing = 0 if silent_server else await commit_all(clients, LAST_FINAL_SECONDS)
        dropped = round(server.metric(_DROPPED) - dropped_before)
        parsed = [transcript.parse(each.received, each.sent, server.silence_ms, each.close_code) for each in clients]
        errors = [error for _, errors in parsed for error in errors] + ["no final for a commit"] * missing
        errors += ["connection lost" for each in clients if each.closed.done() and each.close_code is None]
    return LiveRun(playlists, [utterances for utterances, _ in parsed], load, dropped, errors)


def times_of(utterances: Iterable[Utterance]) -> dict[str, list[float]]:
    """Times of utterances in ms, by the name of the field of `Utterance`."""
    all_of = list(utterances)
    return {
        "endpoint_ms": [each.endpoint_ms for each in all_of if each.endpoint_ms is not None],
        "latency_ms": [float(each.final.latency_ms) for each in all_of if each.final.reason == "endpoint"],
        "first_token_ms": [float(each.final.first_token_ms) for each in all_of if each.final.text],
        "first_partial_ms": [each.first_partial_ms for each in all_of if each.first_partial_ms is not None],
    }


@dataclass(frozen=True, slots=True)
class Level:
    """The result of one level."""

    streams: int
    window: tuple[float, float]  # its ends, in monotonic seconds
    cpu_ms: float  # of the server and its child processes, for one second of audio of one stream
    event_loop_cpu_ms: float  # the event loop's part of it
    wake_ups: float  # voluntary context switches for one second of audio of one stream
    cores: float  # CPU of the server, in cores
    rss_kb: float  # largest resident memory beyond the idle server's, in 1000 bytes for one stream
    threads: float  # threads beyond the idle server's, for one stream
    endpoints: list[float]  # ms from the frame that completes an endpoint's silence to the final, seen by the client
    endpoint_ms: Summary  # of these
    latency_ms: Summary
    first_token_ms: Summary
    first_partial_ms: Summary
    wer: dict[str, object]
    dropped: int
    errors: Sequence[str]
    generator: GeneratorLoad
    problems: Sequence[str]  # reasons to doubt it

    def passed(self, limit_ms: float) -> bool:
        """Whether p95 of endpoint to final is at most `limit_ms`, without drops and errors."""
        p95 = self.endpoint_ms["p95"]
        return p95 is not None and p95 <= limit_ms and not self.dropped and not self.errors


@dataclass(frozen=True, slots=True)
class LevelMeter:
    """The parameters that all levels of a measurement share."""

    recordings: Sequence[Recording]
    seconds: float  # length of the measured window
    warm_seconds: float  # all streams speak for so long before the window
    seed: int
    language: str = "auto"

    def measure(self, server: ServerProcess, streams: int, *, silent_server: bool = False) -> Level:
        """Measure `streams` live streams; each plays the recordings in a random order of its own.

        `silent_server`: see `play`.
        """
        common: dict[str, Any] = {"silent_server": silent_server, "language": self.language, "seed": self.seed}
        # One stream, so that whatever the server loads at its first use counts as idle.
        warm_up = in_order(self.recordings[:1])
        uvloop.run(play(server, [warm_up], speed=_WARM_UP_SPEED, **common))
        idle_rss = rss = server.rss_bytes()
        idle_threads = server.threads()
        ends: list[tuple[Usage, int, int]] = []  # of the window: what was used, frames sent, threads
        due = [self.warm_seconds, self.warm_seconds + self.seconds]

        def read_counters(sender: PacedSender, passed: float) -> None:
            nonlocal rss
            rss = max(rss, server.rss_bytes())
            if len(ends) < len(due) and passed >= due[len(ends)]:
                ends.append((server.usage(), sender.frames_sent(), server.threads()))

        generator = random.Random(self.seed * 1000 + streams)  # noqa: S311 - reproducible, not secret
        total = self.warm_seconds + self.seconds + SETTLE_SECONDS
        playlists = [shuffled(self.recordings, total, generator) for _ in range(streams)]
        played = uvloop.run(play(server, playlists, poll=read_counters, **common))
        (before, first, _), (after, last, threads) = ends
        spent, audio = after - before, max(1, last - first) / FRAMES_PER_SECOND
        times = times_of(played.utterances(self.warm_seconds * 1000, (self.warm_seconds + self.seconds) * 1000))
        return Level(
            streams=streams,
            window=(before.seconds, after.seconds),
            cpu_ms=spent.cpu * 1000 / audio,
            event_loop_cpu_ms=spent.event_loop_cpu * 1000 / audio,
            wake_ups=spent.switches / audio,
            cores=spent.cpu / spent.seconds,
            rss_kb=(rss - idle_rss) / 1000 / streams,
            threads=(threads - idle_threads) / streams,
            endpoints=times["endpoint_ms"],
            **{name: summary(values) for name, values in times.items()},
            wer=word_error_rate.describe(word_errors(part, said) for part, said in played.parts()),
            dropped=played.dropped,
            errors=played.errors,
            generator=played.generator,
            problems=played.problems(),
        )
