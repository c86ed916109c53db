"""Plays live speech to a server, and measures its CPU, memory and delays with a number of streams."""

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
from bench.common.recordings import FRAMES_PER_SECOND, Part, Playlist, Recording, ordered_playlist, shuffled_playlist
from bench.common.server_process import ServerProcess, Usage
from bench.common.stats import Summary, summary
from bench.common.transcript import Utterance, word_errors
from bench.common.websocket_client import commit_all, connected

LAST_FINAL_SECONDS = 60.0  # longest wait for the final of the commit that ends each playlist
SETTLE_SECONDS = 2.0  # after the window the load continues so long, while the last finals of the window arrive
_WARM_UP_SPEED = 8.0
_DROPPED_METRIC = "stt_dropped_messages_total"


@dataclass(frozen=True, slots=True)
class LiveRun:
    """The playlists of all speakers, and the utterances that the server found in them."""

    playlists: Sequence[Playlist]
    utterances_by_speaker: Sequence[Sequence[Utterance]]
    generator: GeneratorLoad
    dropped: int  # number of audio messages that the server dropped
    errors: Sequence[str]  # the errors of all connections

    def problems(self) -> list[str]:
        """Return reasons to doubt the measurement: errors, drops, and a generator that was the limit."""
        problems = [f"ERROR: {error}" for error in sorted(set(self.errors))]
        problems += [f"DROPPED: {self.dropped} messages"] * bool(self.dropped)
        return problems + [f"THE GENERATOR WAS THE LIMIT: {self.generator}"] * self.generator.was_the_limit

    def utterances(self, begin_ms: float = 0, end_ms: float = float("inf")) -> list[Utterance]:
        """Return the utterances whose last voiced sample lies between two positions in the speaker's audio."""
        return [each for one in self.utterances_by_speaker for each in one if begin_ms <= each.final.end_ms < end_ms]

    def parts(self) -> list[tuple[Part, list[Utterance]]]:
        """Return each recording that was played to its end, with its utterances."""
        speakers = zip(self.utterances_by_speaker, self.playlists, strict=True)
        return [pair for spoken, playlist in speakers for pair in transcript.group_by_part(spoken, playlist.parts)]


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
        playlists: the playlist of each speaker.
        language: the `language` parameter of the connections.
        seed: the seed of the times within 20 ms at which the speakers send.
        poll: called about once a second with the sender and the seconds that have passed.
        speed: the speed of the playback; 1 is live.
        silent_server: whether the server sends nothing (the bare socket), neither `ready` nor finals.
    """
    dropped_before = server.metric(_DROPPED_METRIC)
    seconds = max(len(playlist.frames) for playlist in playlists) / FRAMES_PER_SECOND / speed
    frames = [iter(playlist.frames) for playlist in playlists]
    async with connected(server.port, frames, wait_for_message=not silent_server, language=language) as clients:
        sender = PacedSender(clients, seed, speed)
        async with sending(sender) as all_sent:
            start = time.monotonic()
            while (remaining := start + seconds - time.monotonic()) > 0:
                await asyncio.sleep(min(1.0, remaining))
                if poll is not None:
                    poll(sender, time.monotonic() - start)
            await all_sent
            load = sender.load()
        missing = 0 if silent_server else await commit_all(clients, LAST_FINAL_SECONDS)
        dropped = round(server.metric(_DROPPED_METRIC) - dropped_before)
        parsed = [transcript.parse(each.received, each.sent, server.silence_ms, each.close_code) for each in clients]
        errors = [error for _, errors in parsed for error in errors] + ["no final for a commit"] * missing
        errors += ["connection lost" for each in clients if each.closed.done() and each.close_code is None]
    return LiveRun(playlists, [utterances for utterances, _ in parsed], load, dropped, errors)


def utterance_times(utterances: Iterable[Utterance]) -> dict[str, list[float]]:
    """Return the times of utterances in ms, by the fields of `Level`."""
    utterances = list(utterances)
    return {
        "endpoint_ms": [each.endpoint_ms for each in utterances if each.endpoint_ms is not None],
        "latency_ms": [float(each.final.latency_ms) for each in utterances if each.final.reason == "endpoint"],
        "first_token_ms": [float(each.final.first_token_ms) for each in utterances if each.final.text],
        "first_partial_ms": [each.first_partial_ms for each in utterances if each.first_partial_ms is not None],
    }


@dataclass(frozen=True, slots=True)
class Level:
    """The results of one level of load: a number of live streams."""

    streams: int
    window: tuple[float, float]  # start and end of the measured window, in monotonic seconds
    cpu_ms: float  # CPU of the server and its child processes, for one second of audio of one stream
    event_loop_cpu_ms: float  # the part of `cpu_ms` that the event loop used
    wake_ups: float  # voluntary context switches for one second of audio of one stream
    cores: float  # mean number of cores that the server used
    rss_kb: float  # peak resident memory minus that of the idle server, for one stream, in 1000 bytes
    threads: float  # number of threads minus that of the idle server, for one stream
    endpoints: list[float]  # ms from the frame that completes an endpoint's silence to the final, seen by the client
    endpoint_ms: Summary  # summary of `endpoints`
    latency_ms: Summary
    first_token_ms: Summary
    first_partial_ms: Summary
    wer: dict[str, object]
    dropped: int
    errors: Sequence[str]
    generator: GeneratorLoad
    problems: Sequence[str]  # reasons to doubt the results

    def passed(self, limit_ms: float) -> bool:
        """Return whether p95 of endpoint to final is at most `limit_ms`, without drops and errors."""
        p95 = self.endpoint_ms["p95"]
        return p95 is not None and p95 <= limit_ms and not self.dropped and not self.errors


@dataclass(frozen=True, slots=True)
class LoadMeter:
    """Measures levels of load with the same recordings and windows."""

    recordings: Sequence[Recording]
    seconds: float  # length of the measured window
    warm_seconds: float  # length of the warm-up: all streams speak before the window
    seed: int
    language: str = "auto"

    def measure(self, server: ServerProcess, streams: int, *, silent_server: bool = False) -> Level:
        """Measure `streams` live streams; each plays the recordings in a random order of its own.

        `silent_server`: see `play`.
        """
        options: dict[str, Any] = {"silent_server": silent_server, "language": self.language, "seed": self.seed}
        # This stream makes the server load what it loads at its first use, so that this memory counts as idle.
        warm_up = ordered_playlist(self.recordings[:1])
        uvloop.run(play(server, [warm_up], speed=_WARM_UP_SPEED, **options))
        idle_rss = rss = server.rss_bytes()
        idle_threads = server.threads()
        counters: list[tuple[Usage, int, int]] = []  # usage, frames sent and threads at both ends of the window
        window = [self.warm_seconds, self.warm_seconds + self.seconds]

        def read_counters(sender: PacedSender, elapsed: float) -> None:
            nonlocal rss
            rss = max(rss, server.rss_bytes())
            if len(counters) < len(window) and elapsed >= window[len(counters)]:
                counters.append((server.usage(), sender.frames_sent(), server.threads()))

        generator = random.Random(self.seed * 1000 + streams)  # noqa: S311 - reproducible, not secret
        total = self.warm_seconds + self.seconds + SETTLE_SECONDS
        playlists = [shuffled_playlist(self.recordings, total, generator) for _ in range(streams)]
        live_run = uvloop.run(play(server, playlists, poll=read_counters, **options))
        (before, frames_before, _), (after, frames_after, threads) = counters
        usage, audio_seconds = after - before, max(1, frames_after - frames_before) / FRAMES_PER_SECOND
        times = utterance_times(live_run.utterances(*(1000 * end for end in window)))
        return Level(
            streams=streams,
            window=(before.seconds, after.seconds),
            cpu_ms=usage.cpu * 1000 / audio_seconds,
            event_loop_cpu_ms=usage.event_loop_cpu * 1000 / audio_seconds,
            wake_ups=usage.switches / audio_seconds,
            cores=usage.cpu / usage.seconds,
            rss_kb=(rss - idle_rss) / 1000 / streams,
            threads=(threads - idle_threads) / streams,
            endpoints=times["endpoint_ms"],
            **{name: summary(values) for name, values in times.items()},
            wer=word_error_rate.describe(word_errors(part, utterances) for part, utterances in live_run.parts()),
            dropped=live_run.dropped,
            errors=live_run.errors,
            generator=live_run.generator,
            problems=live_run.problems(),
        )
