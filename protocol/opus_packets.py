"""Opus packets (RFC 6716) and what containers say about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

OPUS_RATE = 48_000
"""Hz; the rate of all times in Opus, and of the decoded audio here."""
MAX_PACKET_BYTES = 61_440
"""Longest packet of one or two channels (RFC 7845, section 6)."""
MAX_PACKET_SAMPLES = 5_760
"""Samples of the longest packet, 120 ms (RFC 6716, section 3.4, R5)."""

_SILK_SAMPLES = (480, 960, 1_920, 2_880)
_CELT_SAMPLES = (120, 240, 480, 960)
_FIRST_HYBRID, _FIRST_CELT = 12, 16
_HEAD_BYTES = 19
_GAIN_STEPS_PER_DECADE = 20 * 256


@dataclass(frozen=True, slots=True)
class OpusHead:
    """A stream begins: reset the decoder."""

    pre_skip: int
    """Samples of 48 kHz to decode and leave out at the beginning."""
    gain: float = 1.0
    """Factor for all samples."""


@dataclass(frozen=True, slots=True)
class OpusPacket:
    """One packet, in order."""

    data: bytes
    samples: int
    """How many of its samples at 48 kHz to keep, from the first on."""


@dataclass(frozen=True, slots=True)
class OpusFault:
    """Something in the stream could not be read."""

    fact: str
    """About the stream, in words."""


OpusItem = OpusHead | OpusPacket | OpusFault


class OpusReader(Protocol):
    """Finds packets in a stream's bytes. Used by one thread."""

    def read(self, data: bytes) -> Iterator[OpusItem]:
        """Items that are complete after `data`, lazily; iterate to the end. Incomplete ones are kept."""
        ...


def packet_samples(data: bytes) -> int:
    """Samples of 48 kHz in a packet, by its first two bytes (RFC 6716, section 3.1); 0 if it is none."""
    if not data:
        return 0
    configuration, code = data[0] >> 3, data[0] & 3
    if configuration < _FIRST_HYBRID:
        frame = _SILK_SAMPLES[configuration & 3]
    elif configuration < _FIRST_CELT:
        frame = _SILK_SAMPLES[configuration & 1]
    else:
        frame = _CELT_SAMPLES[configuration & 3]
    frames = (1, 2, 2, data[1] & 63 if len(data) > 1 else 0)[code]
    return frame * frames if frame * frames <= MAX_PACKET_SAMPLES else 0


def read_head(data: bytes) -> OpusHead | None:
    """The head of a stream of one or two channels (RFC 7845, section 5.1); None: it is none."""
    if len(data) < _HEAD_BYTES or data[:8] != b"OpusHead" or data[8] >> 4 or data[18]:
        return None
    gain = int.from_bytes(data[16:18], "little", signed=True)
    return OpusHead(int.from_bytes(data[10:12], "little"), 10 ** (gain / _GAIN_STEPS_PER_DECADE))


class PacketReader:
    """Takes each message as one packet. Satisfies `OpusReader`."""

    def read(self, data: bytes) -> Iterator[OpusItem]:
        """The packet."""
        if len(data) > MAX_PACKET_BYTES:
            yield OpusFault(f"a message is longer than the longest Opus packet, {MAX_PACKET_BYTES} bytes")
        elif data:
            yield OpusPacket(data, packet_samples(data))
