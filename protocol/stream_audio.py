"""Converts the audio of a live stream to 16 kHz PCM as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import soxr  # has no type information

from protocol.opus_packets import OPUS_RATE
from protocol.opus_stream import OpusStream
from protocol.pcm import SAMPLE_RATE, Signal, to_pcm
from protocol.sample_codecs import SAMPLE_BYTES, PcmCodec, decode_samples

StreamCodec = Literal[PcmCodec, "opus"]
MIN_RATE, MAX_RATE = 8_000, 48_000
"""Hz; what telephones, browsers and recorders have."""
TELEPHONE_RATE = 8_000
"""Hz; the rate of G.711."""
_BLOCK_BYTES = 48_000
"""A second of 24 kHz. A long message is converted in such parts, and other connections are served in between."""


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """The format of a client's binary messages."""

    sample_rate: int
    """Hz; ignored for Opus, whose packets have their duration."""
    codec: StreamCodec
    channels: int = 1
    """Interleaved."""

    @property
    def is_native(self) -> bool:
        """Whether no conversion is needed."""
        return (self.sample_rate, self.codec) == (SAMPLE_RATE, "pcm_s16le")


class StreamConverter:
    """Converts one stream. The result does not depend on how the bytes are cut into messages. Used by one thread."""

    def __init__(self, source: StreamFormat) -> None:
        self._decoder: _PcmStream | OpusStream
        if source.codec == "opus":
            self._decoder, rate = OpusStream(source.channels), OPUS_RATE
        else:
            self._decoder, rate = _PcmStream(source.codec, source.channels), source.sample_rate
        self._channels = source.channels
        self._resampler = None
        if rate != SAMPLE_RATE:
            self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, source.channels, dtype="float32")

    @property
    def faults(self) -> list[str]:
        """Descriptions of the damage so far, each kind once."""
        return self._decoder.faults

    def convert(self, data: bytes) -> Iterator[bytes]:
        """The next bytes of the stream as 16 kHz PCM16LE, its channels interleaved.

        The resampler looks a few ms ahead, and holds so many samples. Lazy, in blocks of some ms of CPU, some of them
        empty; iterate to the end.
        """
        for signal in self._decoder.decode(data):
            yield to_pcm(self._resample(signal, last=False))

    def flush(self) -> bytes:
        """The samples that the resampler still holds. The stream may go on."""
        rest = to_pcm(self._resample(np.zeros((0, self._channels), np.float32), last=True))
        if self._resampler is not None:
            self._resampler.clear()
        return rest

    def _resample(self, signal: Signal, *, last: bool) -> Signal:
        """`signal` is float32 [n, channels]."""
        if self._resampler is None:
            return signal
        # soxr needs [n] for one channel.
        resampled: Signal = self._resampler.resample_chunk(signal[:, 0] if self._channels == 1 else signal, last=last)
        return resampled


class _PcmStream:
    """Decodes samples. Messages may end within a sample. Used by one thread."""

    def __init__(self, codec: PcmCodec, channels: int) -> None:
        self._codec: PcmCodec = codec
        self._channels = channels
        self._sample_bytes = channels * SAMPLE_BYTES[codec]
        """Bytes of a sample of all channels."""
        self._partial_sample = b""
        """Beginning of a sample that the next message continues."""
        self.faults: list[str] = []
        """Never any: all bytes are valid samples."""

    def decode(self, data: bytes) -> Iterator[Signal]:
        """The next samples as float32 [n, channels], lazily, in blocks."""
        data = self._partial_sample + data
        whole = len(data) - len(data) % self._sample_bytes
        self._partial_sample = data[whole:]
        for first in range(0, whole, _BLOCK_BYTES):
            block = data[first : min(first + _BLOCK_BYTES, whole)]
            yield decode_samples(block, self._codec).reshape(-1, self._channels)
