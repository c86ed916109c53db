"""Codecs whose samples all have the same length: PCM and G.711."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from protocol.pcm import INT16_SCALE, Signal, to_signal

PcmCodec = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]
PCM_CODECS: tuple[PcmCodec, ...] = get_args(PcmCodec)
SAMPLE_BYTES: Mapping[PcmCodec, int] = MappingProxyType({"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1})


def decode_samples(data: bytes, codec: PcmCodec) -> Signal:
    """Decode whole samples to float32 [n] in [-1, 1].

    Floats may be beyond; values that are not numbers become 0 or 1.
    """
    if codec == "pcm_f32le":
        return np.nan_to_num(np.frombuffer(data, "<f4").astype(np.float32), nan=0, posinf=1, neginf=-1)
    if codec == "pcm_s16le":
        return to_signal(np.frombuffer(data, "<i2"))
    table = _MULAW if codec == "mulaw" else _ALAW
    return table[np.frombuffer(data, np.uint8)]


def _mulaw_table() -> Signal:
    """ITU-T G.711, table 2a: 14-bit values in the upper bits of 16."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4 & 7).astype(np.int32), (code & 15).astype(np.int32)
    size = ((mantissa << 3) + 132 << exponent) - 132
    return np.where(code & 128, -size, size).astype(np.float32) * INT16_SCALE


def _alaw_table() -> Signal:
    """ITU-T G.711, table 1a: 13-bit values in the upper bits of 16; every second bit is inverted."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = (code >> 4 & 7).astype(np.int32), (code & 15).astype(np.int32)
    size = np.where(exponent > 0, (mantissa << 4) + 264 << np.maximum(exponent - 1, 0), (mantissa << 4) + 8)
    return np.where(code & 128, size, -size).astype(np.float32) * INT16_SCALE


_MULAW, _ALAW = _mulaw_table(), _alaw_table()
