"""The one audio format inside the server: 16 kHz, signed 16-bit little-endian, in 20 ms frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000
"""Hz."""

FRAME_MS = 20
"""Length of a frame in ms: the resolution of voice activity detection and of every segment boundary."""

FRAME_SAMPLES = SAMPLE_RATE * FRAME_MS // 1000
"""Samples in a frame (320)."""

BYTES_PER_SAMPLE = 2
BYTES_PER_SECOND = SAMPLE_RATE * BYTES_PER_SAMPLE

INT16_SCALE = np.float32(1 / 32768)
"""From 16-bit units to full scale."""
_RMS_SCALE = np.float32(32768**2 / FRAME_SAMPLES)
_DRIFT = np.linalg.qr(np.vander(np.linspace(-1, 1, FRAME_SAMPLES), 3))[0].T.astype(np.float32)
"""Orthonormal basis of the parabolas over a frame: float32 [3, 320]."""

Samples = npt.NDArray[np.int16]
"""PCM as clients send it: shape [n], int16."""

Signal = npt.NDArray[np.float32]
"""The same audio as engines take it: shape [n], float32 in [-1, 1)."""


def to_signal(samples: Samples) -> Signal:
    """Scale int16 PCM, shape [n], to float32 in [-1, 1), shape [n]."""
    return np.multiply(samples, INT16_SCALE, dtype=np.float32)


def to_pcm(signal: Signal) -> bytes:
    """Float32 in [-1, 1], shape [n], as PCM16LE bytes; values outside are clipped. Exact inverse of `to_signal`."""
    clipped: Samples = np.clip(np.rint(signal * np.float32(32768)), -32768, 32767).astype("<i2")
    return clipped.tobytes()


def frame_rms(signal: Signal) -> Signal:
    """Root mean square of each whole frame in 16-bit units (0 to 32768): float32 [n] -> float32 [n // 320].

    The parabola nearest to each frame is subtracted first. So a DC offset and drift below 20 Hz do not count as
    loudness. A voice at 100 Hz and above loses less than 1 dB.
    """
    frames = signal[: len(signal) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    # One product for each frame: the rounding of a matrix product would depend on the number of frames in the call.
    frames = frames - np.vecmat(np.matvec(_DRIFT, frames), _DRIFT)
    power: Signal = np.vecdot(frames, frames)
    power *= _RMS_SCALE
    return np.sqrt(power, out=power)


def ms(samples: int) -> int:
    """Samples as whole ms, rounded to the nearest."""
    return round(samples * 1000 / SAMPLE_RATE)


def samples_of(milliseconds: int) -> int:
    """Ms as samples."""
    return milliseconds * SAMPLE_RATE // 1000


class PcmReader:
    """Turns a connection's binary messages into samples, whatever their lengths. Used by one thread.

    Bytes that do not yet make a sample of every channel are carried over to the next message. A message that was
    dropped shows as a jump in the offsets and becomes silence of the same length, so that sample numbers stay true to
    the connection's time. Of a sample that was dropped in part, the first bytes are lost, and the others are kept.
    """

    def __init__(self, channels: int = 1) -> None:
        self._channels = channels
        self._sample_bytes = channels * BYTES_PER_SAMPLE
        """Bytes of a sample of all channels."""
        self._next = 0
        self._odd = b""

    def read(self, offset: int, data: bytes) -> tuple[int, Samples]:
        """Samples of silence that come first, then the samples (int16 [channels, n]) of the interleaved `data`.

        `offset` is the number of bytes the client sent before `data`.
        """
        silence = 0
        if offset > self._next:
            silence = offset // self._sample_bytes - self._next // self._sample_bytes
            self._odd = bytes(offset % self._sample_bytes)
        self._next = offset + len(data)
        data = self._odd + data if self._odd else data
        whole = len(data) // self._sample_bytes * self._sample_bytes
        self._odd = data[whole:]
        return silence, np.frombuffer(data[:whole], "<i2").reshape(-1, self._channels).T
