"""Audio in the formats that a live stream may have."""

from __future__ import annotations

from typing import Literal

import av
import numpy as np
import numpy.typing as npt

from protocol.stream_audio import StreamFormat


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
