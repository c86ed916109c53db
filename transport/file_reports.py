"""Reports of the thread that transcribes a file, for the event loop."""

from __future__ import annotations

import asyncio

from protocol.file_dialect import FileProgress, FileSegment


class FileReports:
    """Reports of one file. Any thread may call `put`, only the event loop the rest."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # Unbounded, but never larger than the transcript, which is in memory anyway.
        self._queue: asyncio.Queue[FileSegment | FileProgress | None] = asyncio.Queue()
        self.ended = False
        """Whether all reports were taken, and no more will come."""

    def put(self, event: FileSegment | FileProgress) -> None:
        """Report."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, event)

    def end(self) -> None:
        """No more will come."""
        self._queue.put_nowait(None)

    async def next(self, seconds: float) -> FileSegment | FileProgress | None:
        """The next report; None: there was none for `seconds`, or `ended`."""
        try:
            async with asyncio.timeout(seconds):
                event = await self._queue.get()
        except TimeoutError:
            return None
        self.ended = event is None
        return event
