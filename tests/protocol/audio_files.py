"""Audio files made on the spot, as devices and programs make them."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

import av
import numpy as np

from protocol.pcm import SAMPLE_RATE, Samples

NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


def encoded(
    samples: Samples, container: str, codec: str, rate: int = SAMPLE_RATE, options: Mapping[str, str] = NO_OPTIONS
) -> bytes:
    """`samples`, int16 [n] or [channels, n] at 16 kHz, as FFmpeg's muxer and encoder write them."""
    layout = "mono" if samples.ndim == 1 else "stereo"
    out = io.BytesIO()
    with av.open(out, "w", format=container) as muxer:
        stream = muxer.add_stream(codec, rate=rate, options=dict(options))
        assert isinstance(stream, av.AudioStream)
        stream.layout = layout
        if codec == "wavpack":  # whose own choice has 8 bits
            stream.format = "s16p"
        frame = av.AudioFrame.from_ndarray(samples.T.reshape(1, -1).copy(), format="s16", layout=layout)
        frame.sample_rate = SAMPLE_RATE
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate)
        fifo = av.AudioFifo()
        for converted in resampler.resample(frame) + resampler.resample(None):
            fifo.write(converted)
        at = 0
        while (piece := fifo.read(stream.codec_context.frame_size or 1024, partial=True)) is not None:
            piece.pts, piece.time_base, at = at, Fraction(1, rate), at + piece.samples
            muxer.mux(stream.encode(piece))
        muxer.mux([packet for packet in stream.encode(None) if packet.pts is not None])
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class Format:
    """A container with a codec."""

    container: str
    """FFmpeg's muxer."""
    codec: str
    """FFmpeg's encoder."""
    rate: int = SAMPLE_RATE
    """Hz."""
    options: tuple[tuple[str, str], ...] = ()
    """The encoder's."""
    is_lossless: bool = False
    """Whether 16-bit audio survives at 16 kHz or more."""

    def __str__(self) -> str:
        return f"{self.container}-{self.codec}"

    @property
    def file_name(self) -> str:
        """A name with the container's extension."""
        return f"a.{self.container}"

    def encoded(self, samples: Samples) -> bytes:
        """`samples`, int16 [n] at 16 kHz, in a file of this format; Vorbis needs two channels."""
        channels = np.stack((samples, samples)) if self.codec == "vorbis" else samples
        return encoded(channels, self.container, self.codec, self.rate, dict(self.options))


_VORBIS = (("strict", "experimental"),)
_AMR = (("b", "12200"),)
_WMA = (("b", "64000"),)
FORMATS = (
    Format("wav", "pcm_s16le", is_lossless=True),
    Format("wav", "pcm_f32le", 48_000, is_lossless=True),
    Format("wav", "pcm_s24le", 44_100, is_lossless=True),
    Format("wav", "pcm_mulaw", 8_000),
    Format("wav", "pcm_alaw", 8_000),
    Format("wav", "libmp3lame"),
    Format("wav", "adpcm_ms"),
    Format("wav", "adpcm_ima_wav"),
    Format("wav", "g722"),
    Format("wav", "g726", 8_000),
    Format("w64", "pcm_s16le", is_lossless=True),
    Format("aiff", "pcm_s16be", is_lossless=True),
    Format("au", "pcm_s16be", is_lossless=True),
    Format("caf", "pcm_s16le", is_lossless=True),
    Format("flac", "flac", is_lossless=True),
    Format("ogg", "flac", is_lossless=True),
    Format("ogg", "libopus"),
    Format("ogg", "vorbis", options=_VORBIS),
    Format("webm", "libopus", 48_000),
    Format("webm", "vorbis", options=_VORBIS),
    Format("matroska", "pcm_s16le", is_lossless=True),
    Format("wv", "wavpack", is_lossless=True),
    Format("mp4", "alac", is_lossless=True),
    Format("mp4", "aac", 44_100),
    Format("ipod", "aac", 44_100),
    Format("3gp", "libopencore_amrnb", 8_000, _AMR),
    Format("amr", "libopencore_amrnb", 8_000, _AMR),
    Format("adts", "aac"),
    Format("mp3", "libmp3lame"),
    Format("mp2", "mp2"),
    Format("ac3", "ac3", 48_000),
    Format("eac3", "eac3", 48_000),
    Format("asf", "wmav1", options=_WMA),
    Format("asf", "wmav2", options=_WMA),
    Format("g722", "g722"),
)
"""Every container, and codecs of each, that this FFmpeg writes and the server reads."""


def wav(
    values: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
    rate: int = SAMPLE_RATE,
    *,
    data_bytes: int | None = None,
    kind: int = 1,
) -> bytes:
    """A WAV of `values`, [n] or [channels, n]; `data_bytes` is what it declares; `kind` 3 is float."""
    channels = 1 if values.ndim == 1 else len(values)
    body = np.ascontiguousarray(values.T).tobytes()
    declared = len(body) if data_bytes is None else data_bytes
    width = values.dtype.itemsize
    form = struct.pack("<IHHIIHH", 16, kind, channels, rate, rate * channels * width, channels * width, 8 * width)
    return (
        b"RIFF" + struct.pack("<I", 36 + declared) + b"WAVEfmt " + form + b"data" + struct.pack("<I", declared) + body
    )


def ogg_pages(data: bytes) -> list[bytes]:
    """The pages of an OGG file."""
    starts = [at for at in range(len(data)) if data[at : at + 4] == b"OggS"]
    return [data[first:last] for first, last in zip(starts, [*starts[1:], len(data)], strict=True)]


def with_checksum(page: bytes) -> bytes:
    """The page with the checksum that its bytes have (RFC 3533, section 6)."""
    blank = page[:22] + bytes(4) + page[26:]
    remainder = 0
    for byte in blank:
        remainder ^= byte << 24
        for _ in range(8):
            remainder = (remainder << 1 ^ (0x04C1_1DB7 if remainder & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    return page[:22] + struct.pack("<I", remainder) + page[26:]


def without_end_of_stream(data: bytes) -> bytes:
    """An OGG file as Android's own writer leaves it."""
    *pages, last = ogg_pages(data)
    return b"".join(pages) + with_checksum(last[:5] + bytes([last[5] & ~4]) + last[6:])


def film(samples: Samples) -> bytes:
    """An MP4 of one grey picture a second with `samples`, int16 [n] at 16 kHz, as its sound; none: without sound."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as muxer:
        pictures = muxer.add_stream("mpeg4", rate=1)
        assert isinstance(pictures, av.VideoStream)
        pictures.width = pictures.height = 64
        sound = muxer.add_stream("alac", rate=SAMPLE_RATE, layout="mono") if len(samples) else None
        for number in range(5):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 50 * number, np.uint8), "rgb24")
            picture.pts = number
            muxer.mux(pictures.encode(picture))
        muxer.mux(pictures.encode(None))
        if isinstance(sound, av.AudioStream):
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", "mono")
            frame.sample_rate = SAMPLE_RATE
            fifo = av.AudioFifo()
            for converted in av.AudioResampler(sound.format, "mono", SAMPLE_RATE).resample(frame):
                fifo.write(converted)
            while (piece := fifo.read(sound.codec_context.frame_size or 1024, partial=True)) is not None:
                muxer.mux(sound.encode(piece))
            muxer.mux(sound.encode(None))
    return out.getvalue()
