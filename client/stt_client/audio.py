"""Converts the caller's audio to bytes in the stream's codec."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, runtime_checkable

Codec = Literal["pcm_s16le", "pcm_f32le"]
"""Format of a sample: signed 16-bit integer or 32-bit float, little-endian."""
BYTES_PER_SAMPLE: dict[Codec, int] = {"pcm_s16le": 2, "pcm_f32le": 4}


@runtime_checkable
class SampleArray(Protocol):
    """An array of samples such as numpy's: [n], or [n, channels]; [1, n] too where there is one channel."""

    def tobytes(self) -> bytes:
        """Its bytes, in the machine's own order."""
        ...


AudioChunk = bytes | bytearray | memoryview | SampleArray
"""Bytes in the stream's codec, or an array of int16 or float samples (floats within -1 to 1)."""


def encoded(audio: AudioChunk, codec: Codec, channels: int = 1) -> bytes:
    """The bytes of `audio` in `codec`, its channels interleaved. Bytes are taken as they are.

    Raises:
        TypeError: an array is neither int16, float32 nor float64.
        ValueError: an array has other channels.
    """
    if isinstance(audio, bytes | bytearray):
        return bytes(audio)
    view = memoryview(audio)  # type: ignore[arg-type]  # arrays offer the buffer protocol; Python 3.11 cannot say so
    if not _fits(view.shape or (), channels):
        raise ValueError(f"samples must have the shape [n, {channels}]" if channels > 1 else "the stream is mono")
    kind = view.format.lstrip("<=@")
    if kind in ("B", "b", "c"):
        return view.tobytes()
    if kind not in ("h", "f", "d"):
        raise TypeError(f"samples must be int16, float32 or float64, not {view.format!r}")
    samples: array[int] | array[float] = array(kind, view.tobytes())
    wanted = "h" if codec == "pcm_s16le" else "f"
    return _little_endian(samples if kind == wanted else _converted(samples, integers=wanted == "h", whole=kind == "h"))


def _fits(shape: Sequence[int], channels: int) -> bool:
    """Whether an array's memory holds so many interleaved channels."""
    if channels == 1:
        return sum(length != 1 for length in shape) <= 1
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == channels)


def _converted(samples: Iterable[float], *, integers: bool, whole: bool) -> array[int] | array[float]:
    if integers:
        return array("h", (max(-32768, min(32767, round(sample * 32767))) for sample in samples))
    return array("f", (sample / 32768 if whole else sample for sample in samples))


def _little_endian(samples: array[int] | array[float]) -> bytes:
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()
