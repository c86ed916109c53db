"""The client without asyncio. Each stream has a thread with an event loop."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from stt_client.audio import AudioChunk, SampleArray
from stt_client.client import AsyncClient
from stt_client.errors import SttError
from stt_client.events import Event, Final, Ready
from stt_client.loop_thread import LoopThread
from stt_client.stream import AsyncStream
from stt_client.transcript import Transcript


class Client:
    """A server, by its address. Takes the arguments of `AsyncClient`. May be used by several threads.

    Example:
        >>> client = Client("http://localhost:8000")
        >>> client.transcribe("references/hello.wav").text
        'hello and welcome to the speech server'
    """

    def __init__(self, server: str | None = None, **options: Any) -> None:  # noqa: ANN401 - those of AsyncClient
        self._client = AsyncClient(server, **options)

    @property
    def server(self) -> str:
        """The server's URL."""
        return self._client.server

    def stream(self, **options: Any) -> Stream:  # noqa: ANN401 - those of AsyncClient.stream
        """A live stream, to be used in `with`; takes the arguments of `AsyncClient.stream`."""
        return Stream(self._client, options)

    def transcribe(self, file: str | os.PathLike[str], **options: Any) -> Transcript:  # noqa: ANN401 - likewise
        """Transcribe a file; takes the arguments of `AsyncClient.transcribe` and raises the same.

        `progress` is called on a thread that ends with the transcription.
        """
        with LoopThread("stt file") as loop:
            return loop.run(self._client.transcribe(file, **options))


class Stream:
    """A live stream of one speaker or two. `with` connects; iterating yields events until the last words.

    One thread may send while another iterates; `transcribe` does both. Leaving the `with` block cancels what has no
    final yet; `close` waits for it.

    Example:
        >>> with client.stream(language="en") as stream:
        ...     stream.send(hello)
        ...     finals = stream.close()
        >>> finals[-1].text
        'hello and welcome to the speech server'
    """

    def __init__(self, client: AsyncClient, options: dict[str, Any]) -> None:
        self._client = client
        self._options = options
        self._loop = LoopThread("stt stream")
        self._stack = ExitStack()
        self._stream: AsyncStream | None = None

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            SttError: no server takes the stream.
        """
        with ExitStack() as opening:
            opening.enter_context(self._loop)
            self._stream = self._loop.run(self._open())
            self._stack = opening.pop_all()
        return self

    async def _open(self) -> AsyncStream:
        return await self._client.stream(**self._options).__aenter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stream, self._stream = self._opened, None
        with self._stack:
            self._loop.run(stream.__aexit__(kind, error, traceback))

    @property
    def ready(self) -> Ready:
        """What the server reported about itself."""
        return self._opened.ready

    def send(self, audio: AudioChunk) -> None:
        """Send audio: bytes in the stream's codec, or an array of int16 or float samples; of any length.

        Raises:
            SttError: the stream has ended.
            TypeError: the array is of another type.
            ValueError: the array has other channels than the stream.
        """
        self._loop.run(self._opened.send(audio))

    def commit(self, id: str | int | None = None) -> None:  # noqa: A002 - the protocol's own name
        """End the utterance now. One final a channel with reason `commit` and this `id` answers, even an empty one."""
        self._loop.run(self._opened.commit(id))

    def clear(self) -> None:
        """Drop the open utterance; `Cleared` answers."""
        self._loop.run(self._opened.clear())

    def configure(
        self,
        *,
        language: str | None = None,
        hotwords: Sequence[str] | None = None,
        vad_silence_ms: int | None = None,
        endpointing: bool | None = None,
    ) -> None:
        """Change settings from the next utterance on; `Configured` answers, or a `ServerWarning`."""
        change = self._opened.configure(
            language=language, hotwords=hotwords, vad_silence_ms=vad_silence_ms, endpointing=endpointing
        )
        self._loop.run(change)

    def keepalive(self) -> None:
        """Restart the server's idle timer. A stream that sends nothing does so by itself once a minute."""
        self._loop.run(self._opened.keepalive())

    def finish(self) -> None:
        """Send no more; iterating yields the last words and then ends."""
        self._loop.run(self._opened.finish())

    def close(self) -> list[Final]:
        """Send no more, wait for the last words, and return the finals that were not read.

        Raises:
            SttError: the stream has failed.
        """
        return self._loop.run(self._opened.close())

    def transcribe(self, source: AudioChunk | Iterable[AudioChunk]) -> Iterator[Event]:
        """Send all of `source` from a thread of its own, then `finish`, and yield the events meanwhile.

        The thread ends with the source, or with the first piece after the stream.
        """
        stream = self._opened

        def feed() -> None:
            try:
                for chunk in _chunks(source):
                    self.send(chunk)
                self.finish()
            except Exception as error:  # noqa: BLE001 - raised by the iteration
                self._loop.call(stream.fail, error)

        feeder = threading.Thread(target=feed, name="stt audio", daemon=True)
        feeder.start()
        for event in self:  # noqa: UP028 - `yield from` would call `close` when the caller leaves its loop
            yield event
        feeder.join()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        """The next event.

        Raises:
            StopIteration: the server has sent everything.
            SttError: the stream has failed.
        """
        event = self._loop.run(self._opened.next_event())
        if event is None:
            raise StopIteration
        return event

    @property
    def _opened(self) -> AsyncStream:
        if self._stream is None:
            raise SttError("the stream is not open: use it in `with`")
        return self._stream


def _chunks(source: AudioChunk | Iterable[AudioChunk]) -> Iterable[AudioChunk]:
    return [source] if isinstance(source, bytes | bytearray | memoryview | SampleArray) else source
