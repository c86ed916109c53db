"""Reads Opus packets from an Ogg stream (RFC 3533, RFC 7845) that arrives in parts."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from protocol.opus_packets import MAX_PACKET_BYTES, OpusFault, OpusItem, OpusPacket, packet_samples, read_head

CAPTURE_PATTERN = b"OggS"
"""First bytes of each page."""
_TAGS = b"OpusTags"
"""Beginning of the second packet of a stream, with title and other tags."""
_CONTINUED, _FIRST, _LAST = 1, 2, 4
"""Flags of a page: it continues a packet; it is the first of its stream; it is the last."""
_HEADER_BYTES = 27
_FULL_SEGMENT = 255
_ALL_ONES = 0xFFFFFFFF
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class _Page:
    flags: int
    end: int
    """Samples of the stream up to the end of the page's last whole packet; -1: none ends in it."""
    serial: int
    number: int
    segments: bytes
    body: bytes

    def packets(self) -> tuple[list[bytes], bytes]:
        """The packets, and the beginning of one that the next page continues. The first may be a continuation."""
        packets, start, length = [], 0, 0
        for segment in self.segments:
            length += segment
            if segment < _FULL_SEGMENT:
                packets.append(self.body[start : start + length])
                start, length = start + length, 0
        return packets, self.body[start:]


class OggReader:
    """Reads an Opus stream, and streams that follow it. Satisfies `opus_packets.OpusReader`.

    It buffers less than a page, at most 65307 bytes, and the beginning of a packet.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._serial: int | None = None
        """Serial number of the stream that is read."""
        self._has_first_page = False
        """Whether any stream began. Else the client started in the middle of one."""
        self._next_number: int | None = None
        self._begun = b""
        """The beginning of a packet that the next page continues."""
        self._position: int | None = None
        """Samples since the stream's beginning; None: not known."""

    def read(self, data: bytes) -> Iterator[OpusItem]:
        """See `OpusReader`."""
        self._buffer += data
        while True:
            if self._skip_to_page():
                yield OpusFault("there are bytes in the Ogg stream that are no page")
            size = self._page_size()
            if not size:
                return
            page = bytes(self._buffer[:size])
            if _has_checksum(page) or self._buffer[size:].startswith(CAPTURE_PATTERN):
                del self._buffer[:size]
                yield from self._items(_parsed(page))
            elif len(self._buffer) < size + len(CAPTURE_PATTERN):
                return  # only the next page shows whether this is one
            else:
                del self._buffer[:1]

    def _skip_to_page(self) -> int:
        """Drop bytes in front of a page; returns how many."""
        at = self._buffer.find(CAPTURE_PATTERN)
        if at < 0:
            kept = next(n for n in (3, 2, 1, 0) if self._buffer.endswith(CAPTURE_PATTERN[:n]))
            at = len(self._buffer) - kept
        del self._buffer[:at]
        return at

    def _page_size(self) -> int:
        """Bytes of the page at the beginning; 0 if it has not come whole."""
        buffer = self._buffer
        if len(buffer) < _HEADER_BYTES or len(buffer) < _HEADER_BYTES + buffer[26]:
            return 0
        size = _HEADER_BYTES + buffer[26] + sum(buffer[_HEADER_BYTES : _HEADER_BYTES + buffer[26]])
        return size if len(buffer) >= size else 0

    def _items(self, page: _Page) -> Iterator[OpusItem]:
        if page.flags & _FIRST:
            yield from self._begin(page)
            return
        if self._serial is None and not self._has_first_page:
            self._serial = page.serial
        if page.serial != self._serial:
            if self._serial is None:
                yield OpusFault("the Ogg stream holds no Opus in one or two channels")
            return
        if self._next_number not in {None, page.number}:
            self._begun, self._position = b"", None
            yield OpusFault("an Ogg page is missing")
        self._next_number = page.number + 1 & _ALL_ONES
        yield from self._timed(self._whole_packets(page), page)

    def _begin(self, page: _Page) -> Iterator[OpusItem]:
        self._has_first_page = True
        head = read_head(page.body)
        if head is not None:
            self._serial, self._next_number, self._begun, self._position = page.serial, page.number + 1, b"", 0
            yield head

    def _whole_packets(self, page: _Page) -> list[bytes]:
        packets, rest = page.packets()
        if page.flags & _CONTINUED and not packets:
            rest = (self._begun + rest)[: MAX_PACKET_BYTES + 1] if self._begun else b""
        elif page.flags & _CONTINUED:
            first = packets.pop(0)
            # A packet whose beginning was lost cannot be decoded.
            packets = [self._begun + first, *packets] if self._begun else packets
        self._begun = rest
        return [packet for packet in packets if not packet.startswith(_TAGS)]

    def _timed(self, packets: Sequence[bytes], page: _Page) -> Iterator[OpusItem]:
        """The packets; the last page says which samples at its end do not count (RFC 7845, section 4.4)."""
        left = sum(map(packet_samples, packets))
        if self._position is not None:
            if page.flags & _LAST and page.end > self._position:
                left = min(left, page.end - self._position)
            self._position += left
        for packet in packets:
            if len(packet) > MAX_PACKET_BYTES:
                yield OpusFault(f"a packet is longer than {MAX_PACKET_BYTES} bytes")
                continue
            counted = min(packet_samples(packet), left)
            left -= counted
            yield OpusPacket(packet, counted)


def _parsed(page: bytes) -> _Page:
    def number(first: int, last: int, *, signed: bool = False) -> int:
        return int.from_bytes(page[first:last], "little", signed=signed)

    body = _HEADER_BYTES + page[26]
    end = number(6, 14, signed=True)
    return _Page(page[5], end, number(14, 18), number(18, 22), page[_HEADER_BYTES:body], page[body:])


def _has_checksum(page: bytes) -> bool:
    """Whether the page's CRC is right.

    It is zlib's polynomial, but begins with the highest bit of each byte, at 0, and is not inverted (RFC 3533,
    section 6).
    """
    zeroed = page[:22] + bytes(4) + page[26:]
    checksum = zlib.crc32(zeroed.translate(_REVERSED), _ALL_ONES) ^ _ALL_ONES
    return checksum.to_bytes(4, "big").translate(_REVERSED) == page[22:26]
