"""A janus queue that is bounded in seconds of audio: it drops the oldest live audio, and no command."""

from __future__ import annotations

import contextlib

import janus

from inference.worker_interfaces import AudioMessages, Inbound
from transport.queue_options import QueueOptions


class DropOldestQueue(janus.Queue[Inbound]):
    """Keeps the newest live audio and every command. The hooks overridden are janus's own, called under its lock."""

    def __init__(self, options: QueueOptions, bytes_per_second: int) -> None:
        self._options = options
        self._max_bytes = options.in_seconds * bytes_per_second
        self.messages = 0
        self._bytes = 0
        self.evicted: list[AudioMessages] = []
        super().__init__()

    @property
    def fill(self) -> float:
        """How full the queue is, in seconds or in messages, whichever is more; 1 is full."""
        return max(self._bytes / self._max_bytes, self.messages / self._options.in_messages)

    @property
    def oldest(self) -> Inbound | None:
        """The item that the worker takes next."""
        with contextlib.suppress(IndexError):  # the worker took it in between
            return self._queue[0] if self._queue else None
        return None

    def _put(self, item: Inbound) -> None:
        self._queue.append(item)
        self._count(item, 1)
        while self.fill > 1 and (oldest := self._oldest_live()) is not None:
            self._queue.remove(oldest)
            self._count(oldest, -1)
            self.evicted.append(oldest)

    def _oldest_live(self) -> AudioMessages | None:
        return next((each for each in self._queue if isinstance(each, AudioMessages) and each.live), None)

    def _get(self) -> Inbound:
        item = self._queue.popleft()
        self._count(item, -1)
        return item

    def _count(self, item: Inbound, sign: int) -> None:
        self.messages += sign * (sum(item.counts) if isinstance(item, AudioMessages) else 1)
        self._bytes += sign * audio_bytes(item)


def audio_bytes(item: Inbound) -> int:
    """Bytes of audio in an item."""
    return sum(map(len, item.chunks)) if isinstance(item, AudioMessages) else 0
