"""Reads the header of a WAV file (RIFF, WAVE). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

MAX_HEADER_BYTES = 1 << 16
"""Longest header, which may hold titles and pictures. A longer one is taken for audio."""
_FORMATS: Mapping[tuple[int, int], str] = MappingProxyType(
    {(1, 16): "pcm_s16le", (3, 32): "pcm_f32le", (6, 8): "alaw", (7, 8): "mulaw"}
)
"""Format tag and bits of a sample -> codec."""
_EXTENSIBLE = 0xFFFE
_RIFF_BYTES, _CHUNK_BYTES, _FORMAT_BYTES = 12, 8, 16


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What a header says about its samples."""

    length: int
    """Length of the header in bytes."""
    codec: str
    """Name of a codec of ours, or a description of another."""
    rate: int
    """Hz."""
    channels: int


class Incomplete(Exception):
    """More bytes are needed to read the header."""


def read_header(data: bytes) -> WavHeader | None:
    """Read the header at the beginning of `data`; None: there is none.

    Raises:
        Incomplete: more bytes are needed to decide.
    """
    begin = data[:4]
    if not any(each.startswith(begin) for each in (b"RIFF", b"RF64")) or not b"WAVE".startswith(data[8:12]):
        return None
    at, form = _RIFF_BYTES, b""
    while at < MAX_HEADER_BYTES:
        if len(data) < at + _CHUNK_BYTES:
            raise Incomplete
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        at += _CHUNK_BYTES
        if kind == b"data":
            return _header(at, form)
        form = data[at : at + size] if kind == b"fmt " else form
        at += size + size % 2
    return None


def _header(length: int, form: bytes) -> WavHeader | None:
    if len(form) < _FORMAT_BYTES:
        return None

    def number(first: int, size: int) -> int:
        return int.from_bytes(form[first : first + size], "little")

    tag, bits = number(0, 2), number(14, 2)
    if tag == _EXTENSIBLE:
        tag = number(24, 2)
    return WavHeader(length, _FORMATS.get((tag, bits), f"format {tag} of {bits} bits"), number(4, 4), number(2, 2))
