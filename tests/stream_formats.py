"""Audio in the formats that a live stream may have."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Literal

import av
import numpy as np
import numpy.typing as npt

from protocol.stream_audio import StreamFormat

_LAYOUTS = {1: "mono", 2: "stereo"}


def codec_context(name: str, mode: Literal["r", "w"]) -> av.AudioCodecContext:
    """FFmpeg's codec of this name."""
    context = av.CodecContext.create(name, mode)
    assert isinstance(context, av.AudioCodecContext)
    return context


def encoded(signal: npt.NDArray[np.float64], target: StreamFormat) -> bytes:
    """Samples from -1 to 1, shape [n], of the target's rate; FFmpeg makes G.711."""
    pcm = np.rint(signal * 32767).astype("<i2")
    if target.codec == "pcm_f32le":
        return bytes(signal.astype("<f4").tobytes())
    if target.codec == "pcm_s16le":
        return bytes(pcm.tobytes())
    encoder = codec_context(f"pcm_{target.codec}", "w")
    encoder.sample_rate, encoder.layout, encoder.format = target.sample_rate, "mono", "s16"
    frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), "s16", "mono")
    frame.sample_rate = target.sample_rate
    return b"".join(map(bytes, encoder.encode(frame)))


def opus_packets(pcm: npt.NDArray[np.int16], *, frame_ms: int = 20, channels: int = 1) -> list[bytes]:
    """Samples of 48 kHz, shape [n] or [n, channels], as Opus packets; they begin with 312 samples of delay."""
    encoder = codec_context("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, _LAYOUTS[channels], "s16"
    encoder.bit_rate = 32_000 * channels
    encoder.options = {"frame_duration": str(frame_ms)}
    encoder.open()
    packets = [packet for frame in _frames(pcm, encoder.frame_size, channels) for packet in encoder.encode(frame)]
    return [bytes(packet) for packet in [*packets, *encoder.encode(None)]]


def opus_file(pcm: npt.NDArray[np.int16], container: Literal["ogg", "webm"], **options: str) -> bytes:
    """Samples of 48 kHz, shape [n] or [n, channels], as an Ogg or WebM file that was written as a stream."""
    channels = 1 if pcm.ndim == 1 else pcm.shape[1]
    file = io.BytesIO()
    written = file if container == "ogg" else _Unseekable(file)
    with av.open(
        written, "w", container, options={"live": "1"} | options if container == "webm" else options
    ) as output:
        stream = output.add_stream("libopus", 48_000, layout=_LAYOUTS[channels], format="s16")
        for frame in _frames(pcm, 960, channels):
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


class _Unseekable:
    """A file that cannot be gone back in: the muxer leaves sizes open."""

    def __init__(self, file: io.BytesIO) -> None:
        self.write = file.write


def _frames(pcm: npt.NDArray[np.int16], length: int, channels: int) -> Iterator[av.AudioFrame]:
    for first in range(0, len(pcm), length):
        piece = np.ascontiguousarray(pcm[first : first + length]).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(piece, "s16", _LAYOUTS[channels])
        frame.sample_rate, frame.pts = 48_000, first
        yield frame
