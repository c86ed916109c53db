"""Uploaded audio files as 16 kHz mono blocks, decoded in bounded memory: WAV, FLAC, OGG and MP3.

libsndfile decodes and soxr resamples.
In front of them stands a reader of the few header fields on which libsndfile guesses in silence:
how many bytes a WAV's data chunk has, whether an OGG stream ends, how many frames an MP3 has.
Neither library is shown anything but the four formats, told by their first bytes.

What counts as truncated:

- WAV, RF64 and WAVE64 whose data chunk declares more bytes than the file holds, or that end before it.
  The sizes that writers to a pipe leave behind (0, about 2 GiB, about 4 GiB) mean "to the end of the file".
- OGG (Vorbis, Opus, FLAC) whose last page is cut or is not marked as the end of its stream.
- FLAC and MP3 that decode to fewer frames than their header counts, and FLAC whose frames break off.

What cannot be seen: a WAV from a pipe, a FLAC without a frame count cut between two frames,
an MP3 without a frame count (no Xing, Info or VBRI tag), and an MP3 that lost less than two frames.
An MP3 whose tag counts fewer frames than follow (two files joined) ends where the tag says.

libmpg123, inside libsndfile, writes a note to stderr for each frame of a damaged MP3 and cannot be told not to.
The one note that sound files in the wild cause, on the size in the Xing tag, is prevented here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np
import soundfile
import soxr  # publishes no type information

from protocol.pcm import SAMPLE_RATE, Signal

MIN_RATE = 1_000
"""Hz. Below lies nothing that carries speech, and each input sample would become many output samples."""

MAX_RATE = 768_000
"""Hz; the highest rate converters are sold with."""

MAX_CHANNELS = 64
"""Third-order ambisonics has 16, the largest common consoles record 64."""

BLOCK_SECONDS = 2
"""Length of a decoded block, unless `BLOCK_VALUES` is met first."""

BLOCK_VALUES = 1 << 19
"""Samples times channels in a decoded block: 2 MiB of float32 whatever the header says."""

_NOT_AUDIO = "is not audio in a format this server reads (WAV, FLAC, OGG, MP3)"
_TRUNCATED = "is truncated"
_DAMAGED = "is truncated or damaged"

_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3"})
"""libsndfile's names of what the magic numbers below let through."""

_PIPED_32 = 0x7FFF_0000
"""Declared bytes from which a data chunk of a shorter file was written to a pipe, not cut.

sox writes 0x7FFFF000, arecord 0x7FFFFFFF and 0x80000000, ffmpeg 0xFFFFFFFF.
"""

_PIPED_64 = 1 << 62
"""The same for the 64-bit sizes of RF64 and WAVE64; ffmpeg writes 2**63 - 1 or 2**64 - 1."""

_MAX_CHUNKS = 1_000
"""Chunks looked at before the data chunk: files have a dozen, and each costs a read."""

_MAX_WAV_HEADER = 1 << 20
"""Bytes kept in memory when a size in the header has to be put right."""

_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"

_OGG_PAGE_MAX = 65_307
"""Bytes: 27 of header, 255 of segment table, 255 segments of 255 (RFC 3533, section 6)."""

_OGG_LAST_PAGE = 0x04

_MP3_SLACK = 2 * 1152
"""Samples. Encoders differ on whether the tag counts its own frame; the decoder drops its delay."""

_UNKNOWN_FRAMES = 1 << 62
"""libsndfile reports 2**63 - 1 frames where the header has no count."""


class AudioRejected(Exception):
    """The file is not usable; the text is a fact about it for the peer, lower case, after "the file"."""


class AudioTooLong(Exception):
    """The file is longer than allowed; the text is a fact about it for the peer, lower case."""


def decode(file: BinaryIO, *, max_seconds: float) -> Generator[Signal, None, None]:
    """Decode a whole audio file to 16 kHz mono.

    The header is read by this call, the samples by the iteration; both block on the file and the CPU.
    Channels are averaged, floats beyond +-1 are clipped.
    16 kHz mono 16-bit PCM comes out bit-exact, as `to_signal` would scale it.

    Args:
        file: the upload, readable and seekable, read from its first byte; stays open and has to outlive
            the iteration. Nothing else may move its position meanwhile.
        max_seconds: longest audio accepted, in s of output.

    Returns:
        The audio in order as float32 blocks, shape [n], in [-1, 1], n > 0 and about 2 s at most;
        round(frames * 16000 / rate) samples within one. A file of zero samples has no blocks.
        Closing the generator stops the decoding.

    Raises:
        AudioRejected: not audio, truncated or absurd; from this call where the header tells,
            else from the iteration, after the blocks before the fault.
        AudioTooLong: longer than `max_seconds`; from this call where the header tells, else from the iteration,
            before a block that ends beyond the limit.
        OSError: `file` itself cannot be read.
        ValueError: `file` was closed meanwhile.
    """
    plan = _plan(file)
    source = _Source(file, plan)
    sound = _open(source)
    _check_header(sound, plan, max_seconds)
    return _decoded(sound, source, plan, max_seconds)


# --- reading the headers ---


@dataclass(frozen=True, slots=True)
class _Plan:
    """How libsndfile is shown the file: `head`, then the file's bytes [start, end)."""

    start: int
    end: int
    head: bytes = b""
    counted: bool = True
    """Whether the number of frames that libsndfile reports comes from the file, not from a guess."""
    slack: int = 0
    """Frames that may be missing from that number."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk of a WAV file: its content declared as the bytes [body, body + size)."""

    name: bytes
    body: int
    size: int


@dataclass(frozen=True, slots=True)
class _Size:
    """A size in a header: `value` bytes, from a field of `width` bytes at `at` that counts `extra` more."""

    at: int
    width: int
    value: int
    order: Literal["little", "big"] = "little"
    extra: int = 0

    def to_bytes(self, value: int) -> bytes:
        """The field as it would declare `value` bytes, or as many as fit."""
        return min(value + self.extra, (1 << 8 * self.width) - 1).to_bytes(self.width, self.order)


def _at(file: BinaryIO, position: int, count: int) -> bytes:
    """Up to `count` bytes from `position`."""
    file.seek(position)
    return file.read(count)


def _plan(file: BinaryIO) -> _Plan:
    """Tell the format by its first bytes and check what its header declares."""
    end = file.seek(0, os.SEEK_END)
    start = _after_id3(file, end)
    head = _at(file, start, 16)
    match head[:4]:
        case b"RIFF" | b"RIFX" | b"RF64" if head[8:12] == b"WAVE":
            return _plan_riff(file, start, end)
        case b"riff" if head == _W64_RIFF:
            return _plan_w64(file, start, end)
        case b"fLaC":
            return _Plan(start, end)
        case b"OggS":
            _check_last_page(file, start, end)
            return _Plan(start, end)
        case _ if _is_mpeg(head):
            return _plan_mp3(file, start, end)
        case _:
            raise AudioRejected(_NOT_AUDIO)


def _after_id3(file: BinaryIO, end: int) -> int:
    """Where the file goes on after one ID3v2 tag, or 0; the size has seven bits a byte (ID3v2.4, section 3.1)."""
    head = _at(file, 0, 10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    footer = 10 if head[5] & 0x10 else 0
    if 10 + size + footer > end:
        raise AudioRejected(_TRUNCATED)
    return 10 + size + footer


def _plan_riff(file: BinaryIO, start: int, end: int) -> _Plan:
    """Check the data chunk of RIFF, RIFX (big-endian) and RF64 (64-bit sizes in a chunk of their own)."""
    head = _at(file, start, 8)
    order: Literal["little", "big"] = "big" if head[:4] == b"RIFX" else "little"
    ds64 = None
    for chunk in _riff_chunks(file, start + 12, order):
        if chunk.name == b"ds64":
            ds64 = chunk
        elif chunk.name == b"data":
            size = _Size(chunk.body - 4, 4, chunk.size, order)
            if head[:4] == b"RF64" and ds64 is not None and chunk.size == 0xFFFF_FFFF:
                size = _Size(ds64.body + 8, 8, int.from_bytes(_at(file, ds64.body + 8, 8), "little"))
            # An empty file with a chunk after its data looks like a piped one, but for the size of the whole.
            whole = 8 + int.from_bytes(head[4:], order) if size.width == 4 else 0
            return _plan_data(file, start, end, chunk.body, size, closed=start + whole == end)
    raise AudioRejected(_TRUNCATED)


def _riff_chunks(file: BinaryIO, at: int, order: Literal["little", "big"]) -> Iterator[_Chunk]:
    """The chunks of a RIFF file from `at` on; each is padded to two bytes."""
    for _ in range(_MAX_CHUNKS):
        head = _at(file, at, 8)
        if len(head) < 8:
            return
        chunk = _Chunk(head[:4], at + 8, int.from_bytes(head[4:], order))
        yield chunk
        at = chunk.body + chunk.size + chunk.size % 2
    raise AudioRejected(_NOT_AUDIO)


def _plan_w64(file: BinaryIO, start: int, end: int) -> _Plan:
    """Check the data chunk of WAVE64: GUIDs for names, and 64-bit sizes that count the chunk's own 24 bytes."""
    at = start + 40
    for _ in range(_MAX_CHUNKS):
        if at + 24 > end:  # before the seek, which has 63 bits only
            raise AudioRejected(_TRUNCATED)
        head = _at(file, at, 24)
        declared = int.from_bytes(head[16:], "little")
        if head[:4] == b"data":
            size = _Size(at + 16, 8, max(0, declared - 24), extra=24)
            return _plan_data(file, start, end, at + 24, size, closed=declared == 24)
        # Each step goes forward, whatever the file declares; chunks are padded to eight bytes.
        at += max(24, declared + -declared % 8)
    raise AudioRejected(_NOT_AUDIO)


def _plan_data(file: BinaryIO, start: int, end: int, body: int, size: _Size, *, closed: bool) -> _Plan:
    """Compare a data chunk's declared size with what the file holds, and put a piped one right.

    `closed`: the rest of the header says that a declared size of 0 is meant.
    """
    held = max(0, end - body)
    piped = size.value >= (_PIPED_32 if size.width == 4 else _PIPED_64)
    if size.value > held and not piped:
        raise AudioRejected(_TRUNCATED)
    if closed if size.value == 0 else size.value <= held:
        return _Plan(start, end)
    if body - start > _MAX_WAV_HEADER:
        raise AudioRejected(_NOT_AUDIO)
    head = bytearray(_at(file, start, body - start))
    head[size.at - start : size.at - start + size.width] = size.to_bytes(held)
    return _Plan(body, end, bytes(head))


def _check_last_page(file: BinaryIO, start: int, end: int) -> None:
    """Reject an OGG file that ends within a page or before the last page of its stream (RFC 3533, section 6)."""
    tail = _at(file, max(start, end - _OGG_PAGE_MAX), _OGG_PAGE_MAX)
    at = tail.rfind(b"OggS")
    if at < 0:
        return  # something else was appended; a cut page would have begun within the tail
    page = tail[at:]
    table = page[27 : 27 + page[26]] if len(page) >= 27 else b""
    whole = len(page) >= 27 and len(table) == page[26] and len(page) >= 27 + len(table) + sum(table)
    if not whole or not page[5] & _OGG_LAST_PAGE:
        raise AudioRejected(_TRUNCATED)


def _is_mpeg(head: bytes) -> bool:
    """Whether a header of MPEG audio comes first: 11 set bits, and a layer (AAC has none)."""
    return len(head) >= 4 and head[0] == 0xFF and head[1] >= 0xE0 and bool(head[1] & 0x06)


def _plan_mp3(file: BinaryIO, start: int, end: int) -> _Plan:
    """See to it that libsndfile reads an MP3 to its end.

    It takes the number of frames from the tag in the first one, and without a tag guesses it from the first
    frame's bit rate; with a variable bit rate that is wrong, and what is beyond is lost without an error.
    A tag that counts more frames than the file can hold, put in front, has it read to the end.
    """
    if _at(file, max(start, end - 128), 3) == b"TAG":
        end = max(start, end - 128)  # ID3v1
    frame = _at(file, start, 64)
    if b"VBRI" in frame[32:44]:
        return _Plan(start, end, slack=_MP3_SLACK)
    tag = max(frame.find(b"Xing", 11, 48), frame.find(b"Info", 11, 48))
    flags, frames = (int.from_bytes(frame[tag + i : tag + i + 4], "big") for i in (4, 8))
    if tag < 0 or not flags & 1 or not frames:
        return _Plan(start, end, _counting_frame(frame, (end - start) // 24 + 1), counted=False)
    if flags & 2:
        # libmpg123 warns on stderr where this field, the bytes of the stream, is not what the file holds.
        head = frame[: tag + 12] + min(end - start, 0xFFFF_FFFF).to_bytes(4, "big")
        return _Plan(start + len(head), end, head, slack=_MP3_SLACK)
    return _Plan(start, end, slack=_MP3_SLACK)


def _counting_frame(first: bytes, frames: int) -> bytes:
    """A silent frame like `first` (its MPEG version, sample rate and channels) with a tag that counts `frames`.

    Empty where `first` is not layer III, the one that has a variable bit rate and the tag.
    """
    version, layer, rate = first[1] >> 3 & 3, first[1] >> 1 & 3, first[2] >> 2 & 3
    if layer != 1 or version == 1 or rate == 3:
        return b""
    hertz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    # Bit rate 9 of the table is 128 kbit/s in MPEG 1 and 80 in MPEG 2: room for the tag at every sample rate.
    length = 144 * 128_000 // hertz if version == 3 else 72 * 80_000 // hertz
    mono = first[3] >> 6 == 3
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    head = bytes((0xFF, first[1] | 1, 0x90 | rate << 2, first[3]))  # without checksum and padding
    tag = b"Info" + (1).to_bytes(4, "big") + min(frames, 0xFFFF_FFFF).to_bytes(4, "big")
    return (head + bytes(side) + tag).ljust(length, b"\0")


# --- decoding ---


class _Source:
    """The file as libsndfile's callbacks read it.

    An exception in a callback would be printed and forgotten, and libsndfile seeks where a damaged header sends it:
    so positions are kept in bounds here, and a failing file reads as ended until `check` raises what it said.
    """

    def __init__(self, file: BinaryIO, plan: _Plan) -> None:
        self._file = file
        self._head = plan.head
        self._offset = plan.start - len(plan.head)
        self._size = plan.end - self._offset
        self._position = 0
        self._error: Exception | None = None

    def check(self) -> None:
        """Raise what the file raised (an OSError as it is)."""
        if self._error is not None:
            raise self._error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to the nearest position there is."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}.get(whence, 0)
        self._position = min(max(base + offset, 0), self._size)
        return self._position

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def read(self, count: int) -> bytes:
        """Up to `count` bytes; fewer only at the end."""
        count = min(count, self._size - self._position)
        data = self._head[self._position : self._position + count]
        if len(data) < count:
            try:
                data += _at(self._file, self._offset + self._position + len(data), count - len(data))
            except (OSError, ValueError) as exc:  # ValueError: the file was closed
                self._error = exc
                return b""
        self._position += len(data)
        return data

    def readinto(self, buffer: bytearray) -> int:
        """Fill `buffer` (cffi's, of fixed size) as far as the file goes, and return the bytes read."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]  # soundfile's classes are untyped here
    """A sound file read from front to back.

    soundfile seeks after every read of a seekable file, to where it is already:
    an error in a FLAC without a frame count, a new start of the decoder in others.
    It also trusts the number of frames only of such a file.
    """

    def seekable(self) -> bool:
        return False


def _open(source: _Source) -> _Sequential:
    """Open with libsndfile, and reject what it does not take for one of the four formats."""
    try:
        sound = _Sequential(source)
    except soundfile.SoundFileError as exc:
        source.check()
        raise AudioRejected(_NOT_AUDIO) from exc
    source.check()
    if sound.format not in _FORMATS:
        raise AudioRejected(_NOT_AUDIO)
    return sound


def _check_header(sound: _Sequential, plan: _Plan, max_seconds: float) -> None:
    """Reject what the header alone rules out."""
    if not MIN_RATE <= sound.samplerate <= MAX_RATE:
        raise AudioRejected(f"declares {sound.samplerate} samples a second, not {MIN_RATE} to {MAX_RATE}")
    if not 1 <= sound.channels <= MAX_CHANNELS:
        raise AudioRejected(f"declares {sound.channels} channels, not 1 to {MAX_CHANNELS}")
    if plan.counted and sound.frames < _UNKNOWN_FRAMES and sound.frames > max_seconds * sound.samplerate:
        raise _too_long(max_seconds)


def _too_long(max_seconds: float) -> AudioTooLong:
    return AudioTooLong(f"is longer than {max_seconds:g} s")


def _decoded(sound: _Sequential, source: _Source, plan: _Plan, max_seconds: float) -> Generator[Signal, None, None]:
    """The blocks of an open file, which is closed at the end."""
    samples = 0
    try:
        for block in _resampled(_mono(sound, source, plan), sound.samplerate):
            samples += len(block)
            # One sample more than the header's check allows: resampling rounds up.
            if samples > max_seconds * SAMPLE_RATE + 1:
                raise _too_long(max_seconds)
            if len(block):
                yield np.clip(block, -1, 1)  # resampling overshoots
    finally:
        with contextlib.suppress(soundfile.SoundFileError):
            sound.close()


def _mono(sound: _Sequential, source: _Source, plan: _Plan) -> Iterator[Signal]:
    """The file's blocks at its own rate, channels averaged: float32 [n] in [-1, 1]; raises on what is missing."""
    frames = max(1, min(BLOCK_SECONDS * sound.samplerate, BLOCK_VALUES // sound.channels))
    missing = sound.frames if plan.counted and sound.frames < _UNKNOWN_FRAMES else 0
    while len(block := _read(sound, source, frames)):
        missing -= len(block)
        yield _averaged(block)
    if missing > plan.slack:
        raise AudioRejected(_DAMAGED)


def _read(sound: _Sequential, source: _Source, frames: int) -> Signal:
    """The next frames, float32 [n, channels]; n is 0 at the end only, but may be less than `frames` before."""
    try:
        block: Signal = sound.read(frames, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as exc:
        source.check()
        raise AudioRejected(_DAMAGED) from exc
    source.check()
    return block


def _averaged(block: Signal) -> Signal:
    """Float32 [n, channels] -> float32 [n] in [-1, 1]; rejects infinities and NaN, of which the sum keeps every one."""
    with np.errstate(all="ignore"):
        # A sum by columns is three times as fast as `mean` along the short axis.
        mono = block[:, 0].copy()
        for channel in range(1, block.shape[1]):
            mono += block[:, channel]
        mono /= np.float32(block.shape[1])
    if not np.isfinite(mono).all():
        raise AudioRejected("holds values that are not numbers")
    return np.clip(mono, -1, 1, out=mono)


def _resampled(blocks: Iterator[Signal], rate: int) -> Iterator[Signal]:
    """The blocks, float32 [n], from `rate` Hz to 16 kHz; as one signal, so that no boundary is heard."""
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block)
    # The filter still holds its delay.
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
