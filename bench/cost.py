"""One measurement of what a server costs while streams speak to it; used by `bench.overhead`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from bench import conversation
from bench.audio import FRAMES_PER_SECOND, Loop
from bench.load import Speaker, connected
from bench.report import Progress
from bench.server import Server, drops
from bench.wheel import WHEEL_SLOTS, Mark, Wheel, every_second, turning

SATURATED = 0.97
"""Part of its core from which a server no longer keeps up, so that its cost cannot be told."""
_BYTES_PER_MS = 32
_WARM_UP_SPEED, _WARM_UP_SECONDS = 8.0, 0.6
"""One stream hears 4.8 s of audio, an utterance at least, before the idle server is looked at."""
_SETTLE_SECONDS = 1.0
"""After the window, for the finals of what ended in it."""


@dataclass(slots=True)
class Sample:
    """One server, one number of streams, one window."""

    target: str
    """`bare` or `server`."""
    streams: int
    cpu_ms: float
    """ms of CPU per second of audio of one stream."""
    loop_cpu_ms: float
    """Of that, the event loop's thread."""
    wake_ups: float
    """Times a second that a thread slept and was woken, for each stream."""
    loop_waited: float
    """Part of the time that the event loop's thread was ready to run and another, or another process, ran."""
    core: float
    """Part of its core that the server took."""
    rss_kb_per_stream: float
    """Resident memory beyond the idle server's, in 1000 bytes: the most seen in the window."""
    threads_per_stream: float
    """Threads beyond the idle server's."""
    backlog_ms: float
    """Audio sent that the server's socket had not yet taken at the window's end: the most of any stream."""
    generator: dict[str, float | bool | None]
    dropped: int
    endpoint_ms: list[float] = field(default_factory=list)
    """Endpoint to final as the clients saw it, of endpoints in the window."""
    errors: list[str] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        """Whether the number is the server's and not the generator's, nor that of a server that fell behind."""
        return not self.generator["was_the_limit"] and self.core < SATURATED and not self.errors


@dataclass(frozen=True, slots=True)
class _Window:
    """What happened in it: the generator at both ends, and the server's part."""

    begin: Mark
    end: Mark
    cpu: float
    """Seconds."""
    loop_cpu: float
    """Seconds."""
    waited: float
    """Seconds."""
    switches: int
    rss: int
    """Bytes, the most."""
    threads: int
    """At its end."""

    @property
    def audio(self) -> float:
        """Seconds of audio sent, all streams together."""
        return max(1, self.end.frames - self.begin.frames) / FRAMES_PER_SECOND


@dataclass(frozen=True, slots=True)
class _Room:
    """A server with its streams connected."""

    target: str
    server: Server
    speakers: Sequence[Speaker]
    slots: Sequence[int]
    """When in a frame each of them sends."""
    idle_rss: int
    """Bytes before they came."""
    idle_threads: int


@dataclass(frozen=True, slots=True)
class CostMeter:
    """Measures servers side by side, one speaking at a time while the others are stopped."""

    loop: Loop
    """What every stream plays, each from an offset of its own."""
    rounds: int
    """Windows of each server."""
    seconds: float
    """Length of a window."""
    warm_seconds: float
    """All streams speak for so long before each."""
    seed: int
    silence_ms: int
    """The server's STT_VAD_SILENCE_MS."""
    bar: Progress

    async def measure(self, servers: Mapping[str, Server], streams: int) -> list[Sample]:
        """Speak on all streams of each server in turn, round after round, and take its CPU over the window."""
        async with AsyncExitStack() as stack:
            rooms = []
            for target, server in servers.items():
                rooms.append(await stack.enter_async_context(self._room(server, target, streams)))
                stack.enter_context(server.stopped())
            return [await self._round(room, number) for number in range(self.rounds) for room in rooms]

    @asynccontextmanager
    async def _room(self, server: Server, target: str, streams: int) -> AsyncIterator[_Room]:
        await self._warm_up(server, target)
        idle_rss, idle_threads = server.rss_bytes(), server.threads()
        dice = random.Random(self.seed * 1000 + streams)  # noqa: S311 - reproducible, not secret
        playlists = [self.loop.from_offset(dice.randrange(len(self.loop.frames))) for _ in range(streams)]
        slots = [dice.randrange(WHEEL_SLOTS) for _ in range(streams)]
        async with connected(server.port, playlists, greeted=target == "server") as speakers:
            yield _Room(target, server, speakers, slots, idle_rss, idle_threads)

    async def _round(self, room: _Room, number: int) -> Sample:
        server, speakers = room.server, room.speakers
        self.bar.step(f"{room.target}, {len(speakers)} streams, round {number + 1}")
        wheel = Wheel(speakers, room.slots)
        with server.going():
            # Asked while nothing is measured: it holds up the generator, and what is received then seems late.
            dropped = drops(server.metrics())
            async with turning(wheel):
                await every_second(self.warm_seconds, lambda _: None)
                window = await self._window(server, wheel)
                await every_second(_SETTLE_SECONDS, lambda _: None)
            dropped = drops(server.metrics()) - dropped
        return self._sample(room, wheel, window, dropped)

    async def _warm_up(self, server: Server, target: str) -> None:
        """One stream, so that what is loaded on first use counts as idle."""
        playlists = [self.loop.from_offset(0)]
        async with (
            connected(server.port, playlists, greeted=target == "server") as speakers,
            turning(Wheel(speakers, [0], _WARM_UP_SPEED)),
        ):
            await every_second(_WARM_UP_SECONDS, lambda _: None)
        await asyncio.sleep(_SETTLE_SECONDS / 2)  # its thread ends

    async def _window(self, server: Server, wheel: Wheel) -> _Window:
        resident: list[int] = []

        def look(part: float) -> None:
            resident.append(server.rss_bytes())
            self.bar.part(part)

        switches, loop_cpu, waited = server.switches(), server.loop_cpu_seconds(), server.loop_waited_seconds()
        begin, cpu = wheel.mark(), server.cpu_seconds()
        await every_second(self.seconds, look)
        cpu, end = server.cpu_seconds() - cpu, wheel.mark()
        loop_cpu, switches = server.loop_cpu_seconds() - loop_cpu, server.switches() - switches
        waited = server.loop_waited_seconds() - waited
        return _Window(begin, end, cpu, loop_cpu, waited, switches, max(resident), server.threads())

    def _sample(self, room: _Room, wheel: Wheel, window: _Window, dropped: int) -> Sample:
        streams, length = len(room.speakers), window.end.time - window.begin.time
        sample = Sample(
            target=room.target,
            streams=streams,
            cpu_ms=window.cpu * 1000 / window.audio,
            loop_cpu_ms=window.loop_cpu * 1000 / window.audio,
            wake_ups=window.switches / window.audio,
            loop_waited=window.waited / length,
            core=window.cpu / length,
            rss_kb_per_stream=(window.rss - room.idle_rss) / 1000 / streams,
            threads_per_stream=(window.threads - room.idle_threads) / streams,
            backlog_ms=max(speaker.backlog_bytes for speaker in room.speakers) / _BYTES_PER_MS,
            generator=wheel.strain(window.begin, window.end),
            dropped=dropped,
        )
        self._read_finals(sample, room.speakers, window.begin.time, window.end.time)
        return sample

    def _read_finals(self, sample: Sample, speakers: Sequence[Speaker], begin: float, end: float) -> None:
        """Add what the clients saw of finals whose endpoint was sent in the window, and every error."""
        for speaker in speakers:
            if speaker.gone.done() and speaker.close_code is None:
                sample.errors.append("connection lost")
            said = conversation.read(speaker.received, speaker.sent, self.silence_ms, speaker.close_code)
            sample.errors += said.errors
            for each in said.utterances:
                ended = conversation.endpoint_sent_at(speaker.sent, each.end_ms, self.silence_ms)
                if each.endpoint_ms is not None and ended is not None and begin <= ended < end:
                    sample.endpoint_ms.append(each.endpoint_ms)
