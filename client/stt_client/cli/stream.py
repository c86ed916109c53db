"""`stt stream`: a file, the standard input or the microphone, live."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from stt_client.cli.exit_codes import Exit
from stt_client.cli.live_view import LiveView
from stt_client.cli.sources import Source
from stt_client.client import AsyncClient
from stt_client.stream import AsyncStream

_PIECES = 50
"""Pieces of 100 ms that may wait for the stream."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """The options of the command."""

    language: str
    hotwords: tuple[str, ...]
    words: bool
    vad_silence_ms: int | None
    json: bool


async def stream(client: AsyncClient, source: Source, request: StreamRequest) -> Exit:
    """Stream the source, and show what comes back until the last words.

    The first Ctrl-C ends the source, and the last words still come; the second ends at once.
    """
    interrupts = _Interrupts()
    live = client.stream(
        sample_rate=source.sample_rate,
        channels=source.channels,
        language=request.language,
        hotwords=request.hotwords,
        words=request.words,
        vad_silence_ms=request.vad_silence_ms,
    )
    view = LiveView(sys.stdout, sys.stderr, source.channels, json=request.json)
    try:
        with interrupts:
            await _run(live, source, interrupts, view, client.server)
    except asyncio.CancelledError:
        if not interrupts.first.is_set():
            raise
    return Exit.INTERRUPTED if interrupts.first.is_set() else Exit.DONE


async def _run(live: AsyncStream, source: Source, interrupts: _Interrupts, view: LiveView, server: str) -> None:
    """Connect to `server` and send the source; events are shown from the first attempt to connect on."""
    showing = asyncio.create_task(_show(live, view))
    connecting = view.connecting(server)
    try:
        async with live:
            connecting.stop()
            interrupts.opened = True
            feeder = asyncio.create_task(_feed(live, source, interrupts.first))
            try:
                await showing
                await feeder
            finally:
                await _cancel(feeder)
    finally:
        connecting.stop()
        await _cancel(showing)
        view.clear()


async def _show(live: AsyncStream, view: LiveView) -> None:
    async for event in live:
        view.show(event)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Interrupts:
    """Ctrl-C: the first sets `first`, the second cancels the task; before the stream is open the first does both."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.opened = False
        self._task = asyncio.current_task()

    def __enter__(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

    def _interrupt(self) -> None:
        if self._task is not None and (self.first.is_set() or not self.opened):
            self._task.cancel()
        self.first.set()


async def _feed(live: AsyncStream, source: Source, stop: asyncio.Event) -> None:
    """Send the source, at the speed of speech, until it ends or `stop` is set; then the end.

    Of a live source all is sent that came before `stop`.
    """
    stopped = asyncio.create_task(stop.wait())
    sending = asyncio.create_task(_send(live, source))
    try:
        await asyncio.wait({stopped, sending}, return_when=asyncio.FIRST_COMPLETED)
        if source.live:
            source.stop.set()
            await asyncio.wait({sending})
        if sending.done():
            sending.result()
        await live.finish()
    except Exception as error:
        live.fail(error)
        raise
    finally:
        await _cancel(stopped, sending)


async def _send(live: AsyncStream, source: Source) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    async for piece in _read(source):
        await live.send(piece)
        if not source.live:
            due += len(piece) / (2 * source.channels * source.sample_rate)
            await asyncio.sleep(due - loop.time())


async def _read(source: Source) -> AsyncIterator[bytes]:
    """The pieces, read by a thread: reading blocks."""
    reader = _Reader(source)
    reader.start()
    try:
        while (piece := await reader.pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            reader.room.release()
            yield piece
    finally:
        reader.ended.set()


class _Reader(threading.Thread):
    """Reads a source for the event loop on which it was made. One that waits for input ends with the process."""

    def __init__(self, source: Source) -> None:
        super().__init__(name="stt source", daemon=True)
        self._source = source
        self._loop = asyncio.get_running_loop()
        self.pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        """Pieces that were read; None: the source has ended. Bounded by `room`."""
        self.room = threading.Semaphore(_PIECES)
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            for piece in self._source.pieces:
                if not self._wait_for_room():
                    break
                self._put(piece)
            self._put(None)
        except Exception as error:  # noqa: BLE001 - raised where the pieces are read
            self._put(error)
        finally:
            self._source.pieces.close()

    def _wait_for_room(self) -> bool:
        while not self.room.acquire(timeout=0.5):
            if self.ended.is_set():
                break
        return not self.ended.is_set()

    def _put(self, piece: bytes | Exception | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(self.pieces.put_nowait, piece)
