"""The length of the audio that a container declares, if it does.

FFmpeg gives a duration for every file. For some formats it is cut to what the file holds, or guessed from a bit rate.
For these this module reads the fields itself.
"""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

import av
from av.container import InputContainer

from protocol.concatenated_files import Part

_DECLARING = frozenset({"aiff", "au", "caf", "flac", "mov,mp4,m4a,3gp,3g2,mj2", "w64", "wav", "wv"})
"""FFmpeg's demuxers whose duration of a stream comes from the header."""
_OGG_PAGE_MAX = 65_307
"""Bytes (RFC 3533, section 6)."""
_OPUS_RATE = 48_000
_MP3_TAG_SEARCH = 4_096
"""Bytes at the beginning of an MP3 in which its first frame has the tag."""
_MAX_CHUNKS = 100


class _ChunkLayout(NamedTuple):
    """How a container's chunks are laid out."""

    start: int
    """First chunk's offset in bytes."""
    name_bytes: int
    size_bytes: int
    order: Literal["little", "big"]
    counted: int = 0
    """Bytes of the chunk's own header that its size counts."""
    padding: int = 1
    """Chunks begin at multiples of so many bytes."""


_CHUNK_LAYOUTS = {
    "wav": _ChunkLayout(12, 4, 4, "little", padding=2),
    "w64": _ChunkLayout(40, 16, 8, "little", counted=24, padding=8),
    "caf": _ChunkLayout(8, 4, 8, "big"),
}
_UNKNOWN_SIZES = {0, 0xFFFF_FFFF, (1 << 64) - 1}
"""Sizes of a data chunk that mean "unknown": programs that write to a pipe leave them."""


def declared_seconds(container: InputContainer, stream: av.AudioStream, part: Part) -> float | None:
    """Declared length in s; None: the container declares none. `part` stays at its position."""
    position = part.tell()
    name = container.format.name
    try:
        if name == "ogg":
            return _ogg_seconds(stream, part)
        if name == "mp3":
            return _mp3_seconds(stream, part)
        if name in _CHUNK_LAYOUTS and stream.codec_context.name.startswith("pcm_"):
            return _pcm_seconds(stream, part, _CHUNK_LAYOUTS[name])
        if name == "matroska,webm" and not container.streams.video and container.duration:
            return container.duration / av.time_base
        if name in _DECLARING and stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return None
    finally:
        part.seek(position)


def _pcm_seconds(stream: av.AudioStream, part: Part, layout: _ChunkLayout) -> float | None:
    """From the size of the data chunk: FFmpeg cuts the duration of PCM to what the file holds."""
    part.seek(0)
    order: Literal["little", "big"] = "big" if part.read(4) == b"RIFX" else layout.order
    at = layout.start
    for _ in range(_MAX_CHUNKS):
        part.seek(at)
        head = part.read(layout.name_bytes + layout.size_bytes)
        size = int.from_bytes(head[layout.name_bytes :], order)
        bit_rate = stream.codec_context.bit_rate
        if head[:4] == b"data" and bit_rate:
            if size in _UNKNOWN_SIZES:
                return None
            size -= layout.counted
            return (size + _surplus_bytes(part, at + len(head) + size, layout.padding)) * 8 / bit_rate
        if len(head) < layout.name_bytes + layout.size_bytes:
            return None
        after = at + len(head) + max(0, size - layout.counted)
        at = after + -after % layout.padding
    return None


def _surplus_bytes(part: Part, end: int, padding: int) -> int:
    """Bytes behind the data chunk that are no chunk: samples that its size leaves out, and FFmpeg too."""
    part.seek(end + -end % padding)
    name = part.read(4)
    if not name or name[:3].isalnum():  # also the tags ID3 and TAG
        return 0
    return part.seek(0, os.SEEK_END) - end


def _mp3_seconds(stream: av.AudioStream, part: Part) -> float | None:
    """From the number of frames in the tag of the first frame: without it FFmpeg guesses from the bit rate."""
    part.seek(0)
    head = part.read(_MP3_TAG_SEARCH)
    rate = stream.codec_context.sample_rate
    frame_samples = 1152 if rate > 24_000 else 576
    for tag, at in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        found = head.find(tag)
        if found >= 0 and (tag == b"VBRI" or head[found + 7] & 1):
            samples = int.from_bytes(head[found + at : found + at + 4], "big") * frame_samples
            return (samples - (0 if tag == b"VBRI" else _mp3_trimmed(head[found:]))) / rate
    return None


def _mp3_trimmed(tag: bytes) -> int:
    """Samples of the encoder's delay and padding, which FFmpeg leaves out, by LAME's part of a Xing or Info tag."""
    fields = zip((1, 2, 4, 8), (4, 4, 100, 4), strict=True)
    lame = tag[8 + sum(size for flag, size in fields if tag[7] & flag) :]
    if lame[:4] not in (b"LAME", b"Lavf", b"Lavc"):
        return 0
    both = int.from_bytes(lame[21:24], "big")
    return (both >> 12) + (both & 0xFFF)


def _ogg_seconds(stream: av.AudioStream, part: Part) -> float | None:
    """From the granule position in the last page's header, even if the page is cut (RFC 3533, section 6)."""
    size = part.seek(0, os.SEEK_END)
    part.seek(max(0, size - _OGG_PAGE_MAX))
    tail = part.read()
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + 14:
        return None
    granule = int.from_bytes(tail[at + 6 : at + 14], "little", signed=True)
    context = stream.codec_context
    is_opus = "opus" in context.codec.name
    rate = _OPUS_RATE if is_opus else context.sample_rate
    # A stream may begin at any granule, and the first samples of Opus are not heard (RFC 7845, section 4.2).
    skipped = int.from_bytes((context.extradata or b"")[10:12], "little") if is_opus else 0
    begin = float((stream.start_time or 0) * (stream.time_base or 0))
    return (granule - skipped) / rate - max(0.0, begin)
