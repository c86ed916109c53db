"""A live stream, for asyncio: connects, connects again, and yields typed events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Self

from stt_client.audio import AudioChunk, SampleArray, encoded
from stt_client.errors import SttError
from stt_client.events import Event, Final, Ready
from stt_client.stream_connections import StreamConnections, StreamTarget

AudioSource = AudioChunk | Iterable[AudioChunk] | AsyncIterable[AudioChunk]
"""Audio in one piece, or in pieces as it comes."""


class AsyncStream:
    """A live stream of one speaker or two. `async with` connects; iterating yields events until the last words.

    Used on one event loop. Send and iterate at the same time, or use `transcribe`. Leaving the `async with` block
    cancels what has no final yet; `close` waits for it. A task that iterates while `async with` connects is told of
    attempts that fail (`Reconnecting`).

    Example:
        >>> async def main():
        ...     async with AsyncClient().stream() as stream:
        ...         async for event in stream.transcribe(hello):
        ...             if event.type == "final":
        ...                 print(event.text)
        >>> asyncio.run(main())
        hello and welcome to the speech server
    """

    def __init__(self, target: StreamTarget) -> None:
        self._target = target
        self._connections = StreamConnections(target)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            SttError: no server takes the stream.
        """
        self._task = asyncio.create_task(self._connections.run(), name="stt stream")
        try:
            await self._connections.started.wait()
        except asyncio.CancelledError:
            await self._stop()
            raise
        if self._connections.ready is None:
            await self._stop()
            raise self._connections.error or SttError("the stream ended before it began")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @property
    def ready(self) -> Ready:
        """What the server reported about itself.

        Raises:
            SttError: the stream is not open.
        """
        if self._connections.ready is None:
            raise SttError("the stream is not open: use it in `async with`")
        return self._connections.ready

    async def send(self, audio: AudioChunk) -> None:
        """Send audio: bytes in the stream's codec, or an array of int16 or float samples; of any length.

        Two channels are interleaved: an array has the shape [n, 2]. Waits while 60 s of audio have not been sent.

        Raises:
            SttError: the stream has ended.
            TypeError: the array is of another type.
            ValueError: the array has other channels than the stream.
        """
        data = encoded(audio, self._target.codec, self._target.channels)
        most = self._target.bytes_per_second
        for first in range(0, len(data), most):
            piece = data[first : first + most]
            self._check_open()
            while not self._connections.core.accepts(len(piece)):
                self._connections.progress.clear()
                await self._connections.progress.wait()
                self._check_open()
            self._connections.core.append(piece)
            self._connections.pending.set()

    async def commit(self, id: str | int | None = None) -> None:  # noqa: A002 - the protocol's own name
        """End the utterance now. One final a channel with reason `commit` and this `id` answers, even an empty one."""
        self._command("commit", id=id)

    async def clear(self) -> None:
        """Drop the open utterance; `Cleared` answers."""
        self._command("clear")

    async def configure(
        self,
        *,
        language: str | None = None,
        hotwords: Sequence[str] | None = None,
        vad_silence_ms: int | None = None,
        endpointing: bool | None = None,
    ) -> None:
        """Change settings from the next utterance on; `Configured` answers, or a `ServerWarning`."""
        words = None if hotwords is None else list(hotwords)
        self._command(
            "configure", language=language, hotwords=words, vad_silence_ms=vad_silence_ms, endpointing=endpointing
        )

    async def keepalive(self) -> None:
        """Restart the server's idle timer. A stream that sends nothing does so by itself once a minute."""
        self._check_open()
        self._connections.keepalive()

    async def finish(self) -> None:
        """Send no more; iterating yields the last words and then ends."""
        self._check_failed()
        self._connections.core.finish()
        self._connections.pending.set()

    async def close(self) -> list[Final]:
        """Send no more, wait for the last words, and return the finals that were not read.

        Raises:
            SttError: the stream has failed.
        """
        await self.finish()
        return [event async for event in self if isinstance(event, Final)]

    async def transcribe(self, source: AudioSource) -> AsyncIterator[Event]:
        """Send all of `source`, then `finish`, and yield the events meanwhile.

        Pieces of an iterable must be at hand: one that blocks belongs in a thread, or into `Stream`.
        """
        feeder = asyncio.create_task(self._feed(source), name="stt audio")
        try:
            async for event in self:
                yield event
            await feeder
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            StopAsyncIteration: the server has sent everything.
            SttError: the stream has failed.
        """
        event = await self._connections.events.get()
        if event is None:
            raise StopAsyncIteration
        return event

    # The caller's side

    async def next_event(self) -> Event | None:
        """The next event; None: the server has sent everything."""
        return await self._connections.events.get()

    def fail(self, error: Exception) -> None:
        """End the events with `error`: the source of the audio has failed."""
        self._connections.events.end(error)

    async def _feed(self, source: AudioSource) -> None:
        try:
            async for chunk in _chunks(source):
                await self.send(chunk)
            await self.finish()
        except Exception as error:
            self.fail(error)
            raise

    def _command(self, kind: str, **fields: object) -> None:
        self._check_open()
        self._connections.core.command(kind, **fields)
        self._connections.pending.set()

    def _check_open(self) -> None:
        self._check_failed()
        if self._connections.core.finishing:
            raise SttError("the stream is finished: it takes no more")

    def _check_failed(self) -> None:
        if self._connections.error is not None:
            raise self._connections.error


async def _chunks(source: AudioSource) -> AsyncIterator[AudioChunk]:
    if isinstance(source, bytes | bytearray | memoryview | SampleArray):
        yield source
    elif isinstance(source, AsyncIterable):
        async for chunk in source:
            yield chunk
    else:
        for chunk in source:
            yield chunk
