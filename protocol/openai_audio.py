"""OpenAI's audio, base64 in JSON, as the server's own PCM. Pure."""

from __future__ import annotations

import binascii
from collections.abc import Iterator

import numpy as np
import soxr

from protocol.pcm import SAMPLE_RATE, Samples

_BLOCK_SECONDS = 1
"""A long message is decoded bit by bit, so that the connections beside it need not wait."""


class NotBase64(ValueError):
    """The text is not base64."""


class AudioDecoder:
    """One client's audio in `audio/pcm` (16-bit little-endian), `audio/pcmu` or `audio/pcma`. Used by one thread."""

    def __init__(self, mime: str, rate: int) -> None:
        """`rate` in Hz."""
        self._table = {"audio/pcmu": _MU_LAW, "audio/pcma": _A_LAW}.get(mime)
        self._bytes_per_sample = 2 if self._table is None else 1
        self._block = rate * _BLOCK_SECONDS * self._bytes_per_sample
        self._rate = rate
        self._rest = b""
        """Half a sample."""
        self._resampler = self._new_resampler()

    def decode(self, text: str) -> Iterator[bytes]:
        """The next audio as PCM at 16 kHz, signed 16-bit little-endian.

        Raises:
            NotBase64: before anything is decoded.
        """
        data = self._rest + _from_base64(text)
        whole = len(data) // self._bytes_per_sample * self._bytes_per_sample
        self._rest = data[whole:]
        return (self._convert(data[first : min(first + self._block, whole)]) for first in range(0, whole, self._block))

    def flush(self) -> bytes:
        """What the resampler still holds; the audio that follows stands alone."""
        self._rest = b""
        if self._resampler is None:
            return b""
        tail: Samples = self._resampler.resample_chunk(np.zeros(0, np.int16), last=True)
        self._resampler = self._new_resampler()
        return tail.astype("<i2").tobytes()

    def _convert(self, data: bytes) -> bytes:
        samples: Samples = (
            np.frombuffer(data, "<i2") if self._table is None else self._table[np.frombuffer(data, np.uint8)]
        )
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        return samples.astype("<i2", copy=False).tobytes()

    def _new_resampler(self) -> soxr.ResampleStream | None:
        return None if self._rate == SAMPLE_RATE else soxr.ResampleStream(self._rate, SAMPLE_RATE, 1, dtype="int16")


def _from_base64(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        pass
    try:
        return binascii.a2b_base64("".join(text.split()), strict_mode=True)  # MIME's has lines
    except ValueError as error:
        raise NotBase64("audio is not base64") from error


def _mu_law() -> Samples:
    """ITU-T G.711, table 2a: every byte's sample, in 16 bits."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4 & 7).astype(np.int32), (code & 15).astype(np.int32)
    magnitude = ((mantissa << 3) + 132 << exponent) - 132
    return np.where(code & 128, -magnitude, magnitude).astype(np.int16)


def _a_law() -> Samples:
    """ITU-T G.711, table 1a: every byte's sample, in 16 bits."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = (code >> 4 & 7).astype(np.int32), (code & 15).astype(np.int32)
    magnitude = np.where(exponent == 0, (mantissa << 4) + 8, (mantissa << 4) + 264 << np.maximum(exponent - 1, 0))
    return np.where(code & 128, magnitude, -magnitude).astype(np.int16)


_MU_LAW, _A_LAW = _mu_law(), _a_law()
