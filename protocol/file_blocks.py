"""Decodes a container with FFmpeg to blocks of float32, and leaves out damaged packets."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np
from av.container import InputContainer

from protocol.pcm import Signal

MAX_BLOCK_VALUES = 1 << 19
"""Samples times channels after which a block ends: 2 MiB of float32."""
_BLOCKS_PER_SECOND = 2
_MAX_ERRORS_IN_A_ROW = 100
"""Errors of a container after which the rest of the file counts as missing."""
_MIDDLE = {"u8": np.float32(128)}
_FULL_SCALE = {"u8": 1 << 7, "s16": 1 << 15, "s32": 1 << 31, "s64": 1 << 63}
"""FFmpeg's integer sample formats; the others are floats."""


def frames_of(container: InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """Every frame that can be decoded; damaged packets are left out."""
    errors = 0
    while errors < _MAX_ERRORS_IN_A_ROW:
        try:
            for packet in container.demux(stream):
                errors = 0
                yield from _decoded(packet)
        except (av.FFmpegError, EOFError):
            errors += 1
        else:
            return


def _decoded(packet: av.Packet[av.AudioStream]) -> list[av.AudioFrame]:
    try:
        return [frame for frame in packet.decode() if frame.samples]
    except (av.FFmpegError, EOFError, ValueError):
        return []


def blocks_of(frames: Iterator[av.AudioFrame]) -> Iterator[tuple[int, Signal]]:
    """The frames as blocks of about 500 ms: their rate in Hz, and float32 [channels, n]."""
    held: list[Signal] = []
    rate = samples = 0
    for frame in frames:
        signal = _signal(frame)
        if held and (frame.sample_rate != rate or len(signal) != len(held[0]) or _is_full(held, samples, rate)):
            yield rate, np.concatenate(held, axis=1)
            held, samples = [], 0
        rate = frame.sample_rate
        held.append(signal)
        samples += signal.shape[1]
    if held:
        yield rate, np.concatenate(held, axis=1)


def _is_full(held: list[Signal], samples: int, rate: int) -> bool:
    return samples * _BLOCKS_PER_SECOND >= rate or samples * len(held[0]) >= MAX_BLOCK_VALUES


def _signal(frame: av.AudioFrame) -> Signal:
    """A frame as float32 [channels, n]; integers are scaled to [-1, 1)."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    kind = frame.format.name.removesuffix("p")
    signal: Signal = values.astype(np.float32)
    if kind in _MIDDLE:
        signal -= _MIDDLE[kind]
    if kind in _FULL_SCALE:
        signal *= np.float32(1 / _FULL_SCALE[kind])
    return signal
