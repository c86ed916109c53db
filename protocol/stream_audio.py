"""A live stream's audio, as telephones, browsers and recorders have it, converted to 16 kHz PCM as it comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import soxr  # publishes no type information

from protocol.pcm import SAMPLE_RATE, Signal, to_pcm

StreamCodec = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]
MIN_RATE, MAX_RATE = 8_000, 48_000
"""Hz; what telephones, browsers and recorders have."""
TELEPHONE_RATE = 8_000
"""Hz; the rate of G.711."""
_SAMPLE_BYTES = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
_INT16_SCALE = np.float32(1 / 32768)


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """What a client's binary messages hold."""

    sample_rate: int
    """Hz."""
    codec: StreamCodec
    channels: int = 1
    """Interleaved."""

    @property
    def is_native(self) -> bool:
        """Whether nothing has to be converted."""
        return (self.sample_rate, self.codec) == (SAMPLE_RATE, "pcm_s16le")


class StreamConverter:
    """Converts one stream. The result does not depend on how the bytes are cut into messages. Used by one thread."""

    def __init__(self, source: StreamFormat) -> None:
        self._codec: StreamCodec = source.codec
        self._channels = source.channels
        self._sample_bytes = source.channels * _SAMPLE_BYTES[source.codec]
        """Of all channels."""
        self._partial_sample = b""
        """The beginning of a sample of all channels whose rest comes with the next message."""
        self._resampler = None
        if source.sample_rate != SAMPLE_RATE:
            self._resampler = soxr.ResampleStream(source.sample_rate, SAMPLE_RATE, source.channels, dtype="float32")

    def convert(self, data: bytes) -> bytes:
        """The next bytes of the stream as 16 kHz PCM16LE, its channels interleaved.

        As far as it is ready: the resampler looks ahead a few ms.
        """
        data = self._partial_sample + data
        whole = len(data) - len(data) % self._sample_bytes
        self._partial_sample = data[whole:]
        return to_pcm(self._resample(_decode(data[:whole], self._codec), last=False))

    def flush(self) -> bytes:
        """The samples that `convert` holds back: all audio so far has then come out. The stream may go on."""
        rest = to_pcm(self._resample(np.zeros(0, np.float32), last=True))
        if self._resampler is not None:
            self._resampler.clear()
        return rest

    def _resample(self, signal: Signal, *, last: bool) -> Signal:
        if self._resampler is None:
            return signal
        frames = signal if self._channels == 1 else signal.reshape(-1, self._channels)
        resampled: Signal = self._resampler.resample_chunk(frames, last=last)
        return resampled


def _decode(data: bytes, codec: StreamCodec) -> Signal:
    if codec == "pcm_f32le":
        return np.nan_to_num(np.frombuffer(data, "<f4").astype(np.float32), nan=0, posinf=1, neginf=-1)
    if codec == "pcm_s16le":
        return np.frombuffer(data, "<i2") * _INT16_SCALE
    table = _MULAW if codec == "mulaw" else _ALAW
    return table[np.frombuffer(data, np.uint8)]


def _mulaw_table() -> Signal:
    """ITU-T G.711, table 2a: 14-bit values in the upper bits of 16."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4 & 7).astype(np.int32), (code & 15).astype(np.int32)
    size = ((mantissa << 3) + 132 << exponent) - 132
    return np.where(code & 128, -size, size).astype(np.float32) * _INT16_SCALE


def _alaw_table() -> Signal:
    """ITU-T G.711, table 1a: 13-bit values in the upper bits of 16; every second bit is inverted."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = (code >> 4 & 7).astype(np.int32), (code & 15).astype(np.int32)
    size = np.where(exponent > 0, (mantissa << 4) + 264 << np.maximum(exponent - 1, 0), (mantissa << 4) + 8)
    return np.where(code & 128, size, -size).astype(np.float32) * _INT16_SCALE


_MULAW, _ALAW = _mulaw_table(), _alaw_table()
