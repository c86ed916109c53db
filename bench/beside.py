"""pocketsphinx in the server and bare decoders, in turn over the same utterances; for `bench.decoder`."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import httpx

from backends.pocketsphinx.backend import FINAL_NICENESS, STREAMING_NICENESS
from backends.pocketsphinx.options import PocketsphinxOptions
from bench.audio import Clip, Disc, Playlist, compose, seconds_of, wav
from bench.bare_decoder import BareDecoder, Said, Spent, both_passes, final_passes
from bench.cuts import Cut, Ears
from bench.report import Progress
from bench.server import Member, Server, silence_ms
from bench.stats import median
from bench.talk import Talk, nothing, talk
from bench.wheel import run
from protocol.pcm import BYTES_PER_SAMPLE, SAMPLE_RATE, samples_of

GAP_MS = 1000
"""Silence after every recording."""
IDLE_SECONDS = 5.0
QUIET_SECONDS, QUIET_CORES, QUIET_AT_MOST = 0.5, 0.1, 20.0
"""A server is at rest that took less than this part of a core for so long; waited for at most so many seconds."""
WARM_UP_SPEED = 8.0
WARM_UPS = 4
"""Tries to have the server use every worker."""
USED_CPU = 0.2
"""CPU seconds of a worker that was used; one that was only forked has next to none."""
FIRST_WORKER = 2
"""Of the server's family: the server comes first, then the process that forks the workers."""
LEAST_STREAMING = 0.9
"""Part of the bare decoder's CPU for the streaming pass; a server that takes less left some of it out."""
HTTP_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Live:
    """One round of live speech."""

    way: str
    """Which recordings."""
    recordings: int
    utterances: int
    audio: float
    """Seconds that the speakers sent."""
    server_cpu: float
    """CPU seconds beyond idle."""
    idle_cores: float
    """CPU of the server at rest, in cores."""
    workers: Spent
    """Of the server's CPU, that of the worker processes of each pass; without those that ended with a void pass."""
    bare: Spent
    voided: int
    """Final passes that become void."""
    voided_cpu: float
    """CPU seconds that they would cost in full."""
    started: int
    """Worker processes that came in the window."""
    latency_p50: float | None
    """The server's own measure, ms."""
    problems: Sequence[str]

    @property
    def ratio(self) -> float:
        """The server's CPU by the bare decoder's."""
        return self.server_cpu / self.bare.total


@dataclass(frozen=True, slots=True)
class Upload:
    """One round over HTTP; wall seconds."""

    audio: float
    """Seconds of the file."""
    pieces: int
    server_wall: float
    bare_wall: float
    started: int
    """Worker processes that came in the window."""

    @property
    def ratio(self) -> float:
        """The server's throughput by the bare decoder's."""
        return self.bare_wall / self.server_wall


@dataclass(frozen=True, slots=True)
class _Step:
    """One recording for each speaker, heard by the server and by the bare decoder."""

    said: Talk
    server_cpu: float
    """CPU seconds beyond idle."""
    workers: Spent
    started: int
    bare: Spent


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run's fixed parts."""

    cuts: Mapping[Clip, Sequence[Cut]]
    """What the engine is given of each recording, counted from the recording's first sample."""
    settings: Mapping[str, str]
    cores: Sequence[int]
    speakers: int
    seed: int
    paced: bool
    """Whether the bare decoder hears as live as the server does."""
    partial_ms: int
    """For the bare decoder: see `StreamOptions`."""
    large_pages: bool
    """Whether the bare decoder has the engine's."""
    bar: Progress

    def warm_up(self, server: Server, decoders: Sequence[BareDecoder]) -> list[str]:
        """Have every worker and every decoder used; returns what is doubtful about it."""
        self.bar.step("warm-up")
        clip = sorted(self.cuts, key=lambda clip: clip.seconds)[len(self.cuts) // 2]
        said = [Said(0, cut) for cut in self.cuts[clip]]
        both_passes(decoders, [said] * len(decoders), paced=False, partial_ms=self.partial_ms)
        workers = workers_of(self.settings, self.cores)
        crowd = [Disc([clip]).play([clip], GAP_MS)] * crowd_of(self.settings, self.cores)
        used = 0
        for _ in range(WARM_UPS):
            self._talk(server, crowd, WARM_UP_SPEED)
            upload(server, compose([clip], (clip.seconds + GAP_MS / 1000) * workers, GAP_MS))
            settle(server)
            used = sum(each.cpu > USED_CPU for each in server.family()[FIRST_WORKER:])
            if used == crowd_of(self.settings, self.cores) + 2 * workers:
                return []
        return [f"NOT WARM: only {used} workers were used, and the others' first use is counted as the server's"]

    def live(self, server: Server, decoders: Sequence[BareDecoder], way: str, clips: Sequence[Clip], turn: int) -> Live:
        """One round: a recording for each speaker at a time, to the server and then to the bare decoder."""
        hands = deal(clips, self.speakers, random.Random(self.seed * 1000 + turn))  # noqa: S311 - reproducible
        self.bar.step(f"live, {way}, round {turn + 1}")
        idle, cuts = idle_cores(server), [cut for clip in clips for cut in self.cuts[clip]]
        steps = []
        for number, together in enumerate(zip_longest(*hands)):
            self.bar.part(number / max(map(len, hands)))
            playlists = [Disc([clip]).play([clip], GAP_MS) for clip in together if clip is not None]
            steps.append(self._step(server, decoders, playlists, idle))
        bare, voided = sum((each.bare for each in steps), Spent()), [samples for cut in cuts for samples in cut.voided]
        said = [utterance for each in steps for utterance in each.said.utterances()]
        workers = sum((each.workers for each in steps), Spent())
        return Live(
            way=way,
            recordings=len(clips),
            utterances=len(cuts),
            audio=sum(playlist.seconds for each in steps for playlist in each.said.playlists),
            server_cpu=sum(each.server_cpu for each in steps),
            idle_cores=idle,
            workers=workers,
            bare=bare,
            voided=len(voided),
            voided_cpu=bare.final * sum(voided) / sum(cut.samples for cut in cuts),
            started=sum(each.started for each in steps),
            latency_p50=median([float(each.latency_ms) for each in said if each.reason == "endpoint"]),
            problems=[*self._problems(steps), *left_undone(workers, bare)],
        )

    def _step(
        self, server: Server, decoders: Sequence[BareDecoder], playlists: Sequence[Playlist], idle: float
    ) -> _Step:
        before, cpu, began = server.family(), server.cpu_seconds(), time.monotonic()
        said = self._talk(server, playlists)
        settle(server)
        cpu, wall = server.cpu_seconds() - cpu, time.monotonic() - began
        workers, started = spent_since(before, server.family())
        spoken = [said_by(each, self.cuts) for each in playlists]
        bare = both_passes(decoders, spoken, paced=self.paced, partial_ms=self.partial_ms)
        return _Step(said, cpu - idle * wall, workers, started, bare)

    def _problems(self, steps: Sequence[_Step]) -> list[str]:
        told: dict[str, None] = {}
        for each in steps:
            clips = [part.clip for playlist in each.said.playlists for part in playlist.parts]
            found = problems(each.said, sum(len(self.cuts[clip]) for clip in clips))
            told |= dict.fromkeys(f"{', '.join(clip.name for clip in clips)}: {problem}" for problem in found)
        return list(told)

    def upload(self, server: Server, decoders: Sequence[BareDecoder], pcm: bytes, turn: int) -> Upload:
        """One round: the server, then the bare decoder."""
        self.bar.step(f"HTTP, round {turn + 1}")
        before = server.family()
        server_wall = upload(server, pcm)
        _, started = spent_since(before, server.family())
        settle(server)
        self.bar.step(f"HTTP, round {turn + 1}, bare decoder")
        pieces = [cut.pcm for cut in Ears.of(self.settings).cut(pcm)]
        workers = workers_of(self.settings, self.cores)
        return Upload(seconds_of(pcm), len(pieces), server_wall, final_passes(decoders[:workers], pieces), started)

    def _talk(self, server: Server, playlists: Sequence[Playlist], speed: float = 1.0) -> Talk:
        return run(
            talk(
                server,
                playlists,
                silence_ms=silence_ms(self.settings),
                language="en",
                seed=self.seed,
                look=nothing,
                speed=speed,
            )
        )


def cuts_of(clips: Sequence[Clip], ears: Ears) -> dict[Clip, list[Cut]]:
    """What these ears make of each recording and the silence behind it."""
    gap = bytes(samples_of(GAP_MS) * BYTES_PER_SAMPLE)
    return {clip: ears.cut(clip.pcm + gap) for clip in clips}


def calm(cuts: Mapping[Clip, Sequence[Cut]]) -> list[Clip]:
    """Recordings in which something is said and no final pass becomes void."""
    return [clip for clip, of in cuts.items() if of and not any(cut.voided for cut in of)]


def workers_of(settings: Mapping[str, str], cores: Sequence[int]) -> int:
    """Worker processes for finals, and for files, that the server counts with."""
    return int(settings.get("STT_POCKETSPHINX_WORKERS", "0")) or len(cores)


def crowd_of(settings: Mapping[str, str], cores: Sequence[int]) -> int:
    """Speakers who have partials at once, and so the server's streaming workers."""
    each = int(settings.get("STT_POCKETSPHINX_STREAMS_PER_WORKER", PocketsphinxOptions().streams_per_worker))
    return workers_of(settings, cores) * each


def deal(clips: Sequence[Clip], speakers: int, dice: random.Random) -> list[list[Clip]]:
    """Each recording to one speaker, in a random order, such that all speak for about as long."""
    hands: list[list[Clip]] = [[] for _ in range(min(speakers, len(clips)))]
    for clip in sorted(clips, key=lambda clip: -clip.seconds):
        min(hands, key=lambda hand: sum(each.seconds + GAP_MS / 1000 for each in hand)).append(clip)
    for hand in hands:
        dice.shuffle(hand)
    return hands


def said_by(playlist: Playlist, cuts: Mapping[Clip, Sequence[Cut]]) -> list[Said]:
    """The utterances of what a speaker plays."""
    return [
        Said(part.start_ms / 1000 + cut.start / SAMPLE_RATE, cut) for part in playlist.parts for cut in cuts[part.clip]
    ]


def problems(said: Talk, expected: int) -> list[str]:
    """Why the numbers of a talk may not be the server's, or not of the same utterances as the bare decoder's."""
    told = sorted(set(said.errors))
    if said.generator["was_the_limit"]:
        told.append(f"the generator was the limit: {said.generator}")
    if said.dropped:
        told.append(f"{said.dropped} messages dropped")
    # The commit that ends a playlist is an empty utterance more.
    found = sum(each.end_ms > each.start_ms for each in said.utterances())
    if found != expected:
        told.append(f"{found} utterances and not {expected}")
    return told


def left_undone(workers: Spent, bare: Spent) -> list[str]:
    """Whether the server seems cheap because streaming passes fell behind, which its finals do not wait for."""
    if workers.streaming >= LEAST_STREAMING * bare.streaming:
        return []
    return [f"streaming passes fell behind: {workers.streaming:.2f} s of CPU, not {bare.streaming:.2f} s"]


def spent_since(before: Sequence[Member], now: Sequence[Member]) -> tuple[Spent, int]:
    """CPU of the worker processes of each live pass since an earlier look; and how many processes are new."""
    main, cpu = now[0], {each.pid: each.cpu for each in before}

    def of(niceness: int) -> float:
        return sum(
            each.cpu - cpu.get(each.pid, 0.0)
            for each in now[FIRST_WORKER:]
            if each.niceness == main.niceness + niceness
        )

    return Spent(of(STREAMING_NICENESS), of(FINAL_NICENESS)), sum(each.pid not in cpu for each in now)


def idle_cores(server: Server) -> float:
    """CPU that the server takes at rest, in cores."""
    cpu, began = server.cpu_seconds(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    return (server.cpu_seconds() - cpu) / (time.monotonic() - began)


def settle(server: Server) -> None:
    """Wait for what still runs: streaming passes, and workers that are being started."""
    until = time.monotonic() + QUIET_AT_MOST
    while time.monotonic() < until:
        cpu = server.cpu_seconds()
        time.sleep(QUIET_SECONDS)
        if server.cpu_seconds() - cpu < QUIET_CORES * QUIET_SECONDS:
            return


def upload(server: Server, pcm: bytes) -> float:
    """Wall seconds of a transcription over HTTP, the sending included.

    Raises:
        SystemExit: it failed.
    """
    began = time.monotonic()
    answer = httpx.post(
        f"{server.url}/v1/stt/transcribe",
        params={"language": "en"},
        files={"file": ("composed.wav", wav(pcm))},
        timeout=HTTP_SECONDS,
    )
    if not answer.is_success:
        raise SystemExit(f"HTTP {answer.status_code} {answer.text[:200]}")
    return time.monotonic() - began
