"""Live streams of the client library that go on while servers restart, and what each of them got."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.common.recordings import GAP_MS, Recording
from protocol.pcm import BYTES_PER_SAMPLE, samples_of
from stt_client import AsyncClient, AsyncStream, AudioLost, Event, Final, Reconnected, Reconnecting
from tests.patience import PATIENCE_SECONDS
from tests.stt_client.restarted_server import speak, words

_SILENCE = bytes(samples_of(GAP_MS) * BYTES_PER_SAMPLE)


@dataclass(slots=True)
class Call:
    """One stream: what was said on it and what came back."""

    spoken: list[Recording] = field(default_factory=list)
    finals: list[Final] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)  # seconds from each loss of the connection until it was replaced
    lost_ms: int = 0  # audio that the library could not send again
    _lost_at: float | None = None

    @property
    def audio_seconds(self) -> float:
        """Length of what was said, with the silence behind each recording."""
        return sum(recording.seconds + GAP_MS / 1000 for recording in self.spoken)

    @property
    def exact(self) -> bool:
        """Whether each recording came back once, in order and word for word."""
        texts = [words(final.text) for final in self.finals]
        in_order = [final.segment_seq for final in self.finals] == list(range(len(self.spoken)))
        return in_order and not self.lost_ms and texts == [words(each.text) for each in self.spoken]

    def take(self, event: Event) -> None:
        """Note what matters of an event, at the time when the caller gets it."""
        match event:
            case Final():
                self.finals.append(event)
            case AudioLost():
                self.lost_ms += event.end_ms - event.start_ms
            case Reconnecting() if self._lost_at is None:
                self._lost_at = time.monotonic()
            case Reconnected() if self._lost_at is not None:
                self.gaps.append(time.monotonic() - self._lost_at)
                self._lost_at = None


async def _read(stream: AsyncStream, call: Call, final_came: asyncio.Event) -> None:
    async for event in stream:
        call.take(event)
        if isinstance(event, Final):
            final_came.set()


async def _converse(
    stream: AsyncStream, recordings: Sequence[Recording], call: Call, go_on: Callable[[], bool]
) -> None:
    """Send one recording after another, each when the final of the one before has come, while `go_on()`.

    So a busy machine makes a conversation slower, and never puts more audio before a server than one utterance.
    """
    final_came = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_read(stream, call, final_came))
        while go_on():
            recording = recordings[len(call.spoken) % len(recordings)]
            call.spoken.append(recording)
            final_came.clear()
            await speak(stream, recording.pcm + _SILENCE)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await final_came.wait()
        await stream.finish()


async def converse_during(
    disturb: Callable[[], None], urls: Sequence[str], streams: int, recordings: Sequence[Recording]
) -> list[Call]:
    """Speak on so many streams until `disturb`, which runs on another thread once all speak, has returned.

    Args:
        disturb: restarts servers.
        urls: of the proxy, or of servers that take the streams in turn.
        streams: open at once; they begin with different recordings, within the length of the first.
        recordings: of one utterance each.

    Raises:
        ExceptionGroup: of `SttError` where a stream failed, of `TimeoutError` where a final did not come within
            `PATIENCE_SECONDS`, of what `disturb` raises.
    """
    calls = [Call() for _ in range(streams)]
    connected = asyncio.Barrier(streams + 1)
    over = False

    async def one(number: int, call: Call) -> None:
        mine = [*recordings[number % len(recordings) :], *recordings[: number % len(recordings)]]
        async with AsyncClient(urls[number % len(urls)], connect_seconds=PATIENCE_SECONDS).stream(
            language="en"
        ) as stream:
            await connected.wait()
            await asyncio.sleep(recordings[0].seconds * number / streams)
            await _converse(stream, mine, call, lambda: not over)

    async def disturb_all() -> None:
        nonlocal over
        try:
            await connected.wait()
            await asyncio.sleep(recordings[0].seconds)
            await asyncio.to_thread(disturb)
        finally:
            over = True

    async with asyncio.TaskGroup() as group:
        group.create_task(disturb_all())
        for number, call in enumerate(calls):
            group.create_task(one(number, call))
    return calls
