"""The containers and codecs of uploads, and how FFmpeg is allowed to open them.

FFmpeg reads several hundred formats, among them playlists that name other files and addresses.
Only the demuxers and decoders named here may run, and they may read nothing but the upload.
"""

from __future__ import annotations

from typing import NoReturn

import av
from av.container import InputContainer

from protocol.concatenated_files import Part

DEMUXERS = "aac,ac3,aiff,amr,amrnb,amrwb,asf,au,caf,eac3,flac,g722,matroska,webm,mov,mp4,m4a,3gp,mp3,ogg,w64,wav,wv"
"""FFmpeg's names of demuxers. None follows references to other files: mov does only with `enable_drefs`, which is
off."""

_PCM = ",".join(
    f"pcm_{kind}"
    for kind in [
        "alaw",
        "mulaw",
        "u8",
        "s8",
        "s8_planar",
        "s16le",
        "s16be",
        "s16le_planar",
        "s16be_planar",
        "u16le",
        "u16be",
        "s24le",
        "s24be",
        "s24le_planar",
        "u24le",
        "u24be",
        "s32le",
        "s32be",
        "s32le_planar",
        "u32le",
        "u32be",
        "s64le",
        "s64be",
        "f16le",
        "f24le",
        "f32le",
        "f32be",
        "f64le",
        "f64be",
    ]
)
DECODERS = (
    "aac,aac_latm,ac3,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,adpcm_yamaha,alac,amrnb,amrwb,eac3,flac,g722,g726,g726le,gsm,"
    "gsm_ms,libopencore_amrnb,libopencore_amrwb,libopus,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,speex,vorbis,wavpack,"
    f"wmalossless,wmapro,wmav1,wmav2,wmavoice,{_PCM}"
)
"""FFmpeg's names."""

_DECODER_NAMES = frozenset(DECODERS.split(","))
_FORMATS_WITHOUT_SIGNATURE = {"g722": "g722"}
"""File extension -> demuxer, for formats that cannot be recognised by their content."""

PROBE_BYTES = 1 << 20
"""Bytes that FFmpeg may read to recognise a format."""
MAX_STREAMS = 16
"""Most streams in a container. A film has a dozen."""


class UnknownFormat(Exception):
    """No allowed demuxer knows the file, or no allowed decoder its audio."""


def open_container(file: Part, name: str) -> InputContainer:
    """Open an upload; the caller closes the container. `name` is the upload's file name, or empty.

    Raises:
        UnknownFormat: the file is none of these formats, or has no audio that an allowed decoder reads.
        OSError: `file` cannot be read.
    """
    try:
        container = av.open(
            file,
            format=_FORMATS_WITHOUT_SIGNATURE.get(name.rpartition(".")[2].lower()),
            io_open=_refuse_reference,
            options={
                "format_whitelist": DEMUXERS,
                "codec_whitelist": DECODERS,
                "protocol_whitelist": "none",
                "probesize": str(PROBE_BYTES),
                "formatprobesize": str(PROBE_BYTES),
                "max_streams": str(MAX_STREAMS),
            },
            metadata_errors="replace",
        )
    except (av.FFmpegError, ValueError) as error:
        raise UnknownFormat from error
    assert isinstance(container, InputContainer)  # noqa: S101 - for the type checker
    if not any(is_readable(stream) for stream in container.streams.audio):
        container.close()
        raise UnknownFormat
    return container


def is_readable(stream: av.AudioStream) -> bool:
    """Whether an allowed decoder reads the stream."""
    context = stream.codec_context
    # PyAV's types do not say that a stream without a decoder has no context.
    return getattr(context, "codec", None) is not None and context.codec.name in _DECODER_NAMES


def _refuse_reference(url: str, flags: int, options: dict[str, str]) -> NoReturn:  # noqa: ARG001 - PyAV's signature
    raise PermissionError(f"an upload may not refer to {url!r}")
