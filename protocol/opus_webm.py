"""Reads Opus packets from a WebM stream (Matroska, RFC 9559) that arrives in parts, as MediaRecorder makes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from protocol.opus_packets import OPUS_RATE, OpusFault, OpusHead, OpusItem, OpusPacket, packet_samples, read_head

EBML = b"\x1a\x45\xdf\xa3"
"""First bytes of the stream."""
_CLUSTER = b"\x1f\x43\xb6\x75"

_EBML, _SEGMENT, _CLUSTERS, _TRACKS = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0x1654AE6B
_TRACK_ENTRY, _SIMPLE_BLOCK, _BLOCK_GROUP = 0xAE, 0xA3, 0xA0
_TRACK_NUMBER, _CODEC_ID, _CODEC_PRIVATE, _CODEC_DELAY = 0xD7, 0x86, 0x63A2, 0x56AA
_BLOCK, _DISCARD_PADDING = 0xA1, 0x75A2
_ENTERED = {_SEGMENT, _CLUSTERS, _TRACKS}
"""Elements whose children are read as they come. In a live stream the size of the first two is unknown."""
_READ = {_TRACK_ENTRY, _SIMPLE_BLOCK, _BLOCK_GROUP}
_SKIPPED = {
    _EBML,
    0xEC,  # Void
    0xBF,  # CRC-32
    0x114D9B74,  # SeekHead
    0x1549A966,  # Info
    0x1C53BB6B,  # Cues
    0x1043A770,  # Chapters
    0x1254C367,  # Tags
    0x1941A469,  # Attachments
    0xE7,  # Timestamp
    0xA7,  # Position
    0xAB,  # PrevSize
    0x5854,  # SilentTracks
}
_MAX_READ_BYTES = 1 << 16
"""Longest block that is read; longer ones hold video."""
_MAX_SKIPPED_BYTES = 1 << 22
"""Longest element that is skipped; a longer one means that the stream is damaged."""
_LACING = 0x06
"""Flags of a block that holds several packets."""
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Header:
    kind: int
    length: int
    """Length of the header in bytes."""
    size: int | None
    """Length of the content in bytes; None: unknown."""


class WebmReader:
    """Reads the first Opus track, of each stream that comes. Satisfies `opus_packets.OpusReader`.

    It holds at most an element of 64 KiB.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._to_skip = 0
        self._track: int | None = None
        self._damaged = False
        """Whether to search for the next cluster, because the stream is damaged here."""

    def read(self, data: bytes) -> Iterator[OpusItem]:
        """See `OpusReader`."""
        self._buffer += data
        while self._skip() and self._find_cluster():
            header = _header(self._buffer)
            if header is None:
                return
            if not _is_plausible(header):
                self._damaged = True
                del self._buffer[:1]
                yield OpusFault("there are bytes in the WebM stream that are no element")
            elif header.kind in _ENTERED:
                self._to_skip = header.length
            elif header.kind in _READ and (header.size or 0) <= _MAX_READ_BYTES:
                end = header.length + (header.size or 0)
                if len(self._buffer) < end:
                    return
                content = bytes(self._buffer[header.length : end])
                del self._buffer[:end]
                yield from self._items(header.kind, content)
            else:
                self._to_skip = header.length + (header.size or 0)
                self._track = None if header.kind == _EBML else self._track

    def _skip(self) -> bool:
        """Drop bytes that are to be skipped; returns whether all of them have come."""
        now = min(self._to_skip, len(self._buffer))
        del self._buffer[:now]
        self._to_skip -= now
        return not self._to_skip

    def _find_cluster(self) -> bool:
        """Whether the buffer begins with an element; behind damage the next cluster, or the next stream, does."""
        if not self._damaged:
            return True
        found = [at for at in (self._buffer.find(_CLUSTER), self._buffer.find(EBML)) if at >= 0]
        at = min(found, default=max(0, len(self._buffer) - len(EBML) + 1))
        del self._buffer[:at]
        self._damaged = not found
        return bool(found)

    def _items(self, kind: int, content: bytes) -> Iterator[OpusItem]:
        if kind == _TRACK_ENTRY:
            yield from self._open_track(content)
        elif kind == _SIMPLE_BLOCK:
            yield from self._block(content, 0)
        else:
            parts = dict(_elements(content))
            padding = int.from_bytes(parts.get(_DISCARD_PADDING, b""), "big", signed=True)
            yield from self._block(parts.get(_BLOCK, b""), max(0, padding))

    def _open_track(self, content: bytes) -> Iterator[OpusHead]:
        parts = dict(_elements(content))
        if self._track is None and parts.get(_CODEC_ID, b"").rstrip(b"\0") == b"A_OPUS":
            self._track = int.from_bytes(parts.get(_TRACK_NUMBER, b""), "big")
            delay = int.from_bytes(parts.get(_CODEC_DELAY, b"")[:8], "big")
            yield read_head(parts.get(_CODEC_PRIVATE, b"")) or OpusHead(delay * OPUS_RATE // _NANOSECONDS)

    def _block(self, content: bytes, padding: int) -> Iterator[OpusItem]:
        """A block's packet, of which `padding` ns at the end do not count."""
        track, length = _number(content, 0)
        if self._track is None:
            yield OpusFault("the WebM stream has no Opus track")
        elif track != self._track or len(content) < length + 4:
            return
        elif content[length + 2] & _LACING:
            yield OpusFault("blocks of several packets are not read")
        else:
            packet = content[length + 3 :]
            yield OpusPacket(packet, max(0, packet_samples(packet) - padding * OPUS_RATE // _NANOSECONDS))


def _is_plausible(header: _Header) -> bool:
    if header.kind in _ENTERED:
        return True
    return header.kind in _READ | _SKIPPED and header.size is not None and header.size <= _MAX_SKIPPED_BYTES


def _header(data: bytes | bytearray) -> _Header | None:
    """The header of the element at the beginning; None: it has not come whole. A kind of 0 is no element."""
    if not data:
        return None
    kind_length = 9 - data[0].bit_length()
    if kind_length > 4:
        return _Header(0, 1, None)
    if len(data) <= kind_length:
        return None
    size, size_length = _number(data, kind_length)
    if not size_length:
        return _Header(0, 1, None)
    if len(data) < kind_length + size_length:
        return None
    is_open = size == (1 << 7 * size_length) - 1
    kind = int.from_bytes(data[:kind_length], "big")
    return _Header(kind, kind_length + size_length, None if is_open else size)


def _number(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """A number of variable length (RFC 8794, section 4), and its length in bytes; 0 bytes: it is none."""
    if at >= len(data) or not data[at]:
        return 0, 0
    length = 9 - data[at].bit_length()
    return int.from_bytes(data[at : at + length], "big") & (1 << 7 * length) - 1, length


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements in an element: kind and content."""
    while (header := _header(content)) is not None and header.size is not None:
        end = header.length + header.size
        yield header.kind, content[header.length : end]
        content = content[end:]
