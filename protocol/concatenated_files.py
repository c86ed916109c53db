"""Splits uploads that are several files one after another: FFmpeg would read only the first.

Joined WAV files (recorders that send a header with every piece) are split at every RIFF header.
Chained OGG streams (RFC 3533, section 4) are split at every page that begins a new chain link.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

MAX_PARTS = 1_000
"""Most files in one upload: an hour in pieces of 3.6 s."""

_CHUNK = 1 << 20
_RIFF = re.compile(rb"RIFF.{4}WAVE", re.DOTALL)
_OGG_FIRST_PAGE = re.compile(rb"OggS\x00[\x02\x03\x06\x07]")
_PATTERN_BYTES = 12
"""Length of the longest match."""
_OGG_PAGE_HEADER = 27
_MAX_ID3_TAGS = 10
_LEAST_ZEROS = 16
"""Least number of zero bytes in front that are skipped; an MP4 begins with three."""


class TooManyParts(Exception):
    """The upload is more than `MAX_PARTS` files."""


class Part(io.RawIOBase):
    """The bytes [start, end) of a file, as a file. It moves the file's position, and never closes the file."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        super().__init__()
        self._file = file
        self.start = start
        self.end = end
        self._position = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position in bytes from `start`."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to the nearest position there is."""
        size = self.end - self.start
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: size}[whence]
        self._position = min(max(base + offset, 0), size)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; none at the end."""
        held = self.end - self.start - self._position
        self._file.seek(self.start + self._position)
        data = self._file.read(held if size < 0 else min(size, held))
        self._position += len(data)
        return data


def split(file: BinaryIO) -> list[Part]:
    """The files of an upload, in order, without the zeros and ID3v2 tags in front.

    Raises:
        TooManyParts: there are more than `MAX_PARTS`.
        OSError: `file` cannot be read.
    """
    end = file.seek(0, os.SEEK_END)
    start = _begin(file, end)
    file.seek(start)
    match file.read(4):
        case b"RIFF":
            starts = list(_positions(file, start, end, _RIFF))
        case b"OggS":
            starts = _chain_links(file, start, end)
        case _:
            starts = []
    if not starts or starts[0] != start:
        starts.insert(0, start)
    return [Part(file, first, last) for first, last in zip(starts, [*starts[1:], end], strict=True)]


def _begin(file: BinaryIO, end: int) -> int:
    """Where zeros and ID3v2 tags end; a tag's size has seven bits a byte (ID3v2.4, section 3.1)."""
    at = _after_zeros(file, 0, end)
    for _ in range(_MAX_ID3_TAGS):
        file.seek(at)
        head = file.read(10)
        if head[:3] != b"ID3" or len(head) < 10:
            return at
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        after = at + 10 + size + (10 if head[5] & 0x10 else 0)
        if after >= end:
            return at
        at = _after_zeros(file, after, end)
    return at


def _after_zeros(file: BinaryIO, first: int, end: int) -> int:
    at = first
    file.seek(at)
    while at < end and (chunk := file.read(_CHUNK)):
        rest = chunk.lstrip(b"\0")
        if rest:
            begin = at + len(chunk) - len(rest)
            return begin if begin - first >= _LEAST_ZEROS else first
        at += len(chunk)
    return end


def _positions(file: BinaryIO, start: int, end: int, pattern: re.Pattern[bytes]) -> Iterator[int]:
    """Where the pattern matches in [start, end)."""
    found = 0
    at, tail = start, b""
    file.seek(start)
    while at < end and (chunk := file.read(_CHUNK)):
        window = tail + chunk
        for match in pattern.finditer(window):
            # A match within the tail was found in the previous chunk.
            if match.end() > len(tail):
                found += 1
                if found > MAX_PARTS:
                    raise TooManyParts
                yield at - len(tail) + match.start()
        at += len(chunk)
        tail = window[-(_PATTERN_BYTES - 1) :]
        file.seek(at)


def _chain_links(file: BinaryIO, start: int, end: int) -> list[int]:
    """Where chain links begin: at a stream's first page, unless it follows another stream's first page."""
    links = []
    previous_ends = -1
    for at in _positions(file, start, end, _OGG_FIRST_PAGE):
        if at != previous_ends:
            links.append(at)
        file.seek(at)
        head = file.read(_OGG_PAGE_HEADER + 255)
        table = head[_OGG_PAGE_HEADER : _OGG_PAGE_HEADER + head[26]] if len(head) >= _OGG_PAGE_HEADER else b""
        previous_ends = at + _OGG_PAGE_HEADER + len(table) + sum(table)
    return links
