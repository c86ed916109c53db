"""Uploaded audio files as 16 kHz blocks, decoded in bounded memory: FFmpeg decodes, soxr resamples."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer

from protocol.channels import ChannelMode
from protocol.concatenated_files import MAX_PARTS, Part, TooManyParts, split
from protocol.declared_length import declared_seconds
from protocol.events import WarningCode
from protocol.file_blocks import blocks_of, frames_of
from protocol.file_converter import Converter
from protocol.file_formats import UnknownFormat, is_readable, open_container
from protocol.pcm import SAMPLE_RATE, Signal

MIN_RATE = 1_000
"""Hz. Lower rates carry no speech, and each of their samples would become many."""
MAX_RATE = 768_000
"""Hz; the highest rate of audio converters on the market."""
MAX_CHANNELS = 64
"""Third-order ambisonics has 16, the largest common consoles record 64."""
MISSING_SECONDS = 0.1
"""Audio that may be missing from the declared length without a warning: encoders differ on whether they count their
delay."""

_NOT_AUDIO = "is not audio in a format this server reads (see the list in its documentation)"


class AudioRejected(Exception):
    """The file cannot be decoded. The text tells the peer why, in lower case; it follows "the file"."""


class AudioTooLong(Exception):
    """The file is longer than allowed. The text tells the peer, in lower case; it follows "the file"."""


@dataclass(frozen=True, slots=True)
class AudioWarning:
    """A fact about a decoded file that the client should know."""

    code: WarningCode
    message: str
    """A fact about the file, in words."""


def decode(
    file: BinaryIO, *, max_seconds: float, channel_mode: ChannelMode = ChannelMode.MIX, name: str = ""
) -> DecodedAudio:
    """Decode a whole audio file to 16 kHz. Nothing is read before the iteration.

    Args:
        file: the upload, readable and seekable. It must stay open during the iteration, which moves its position.
        max_seconds: longest audio accepted, in s of output.
        channel_mode: which of several channels to keep.
        name: the upload's file name; some formats are recognised by its extension only.
    """
    return DecodedAudio(file, max_seconds, channel_mode, name)


class DecodedAudio:
    """The audio of one file, to be iterated once, by one thread.

    The blocks are float32 [channels, n] in [-1, 1], n > 0, about 500 ms each; one channel unless the mode is `split`.
    16 kHz 16-bit PCM comes out bit-exact, as `to_signal` would scale it.
    The iteration blocks on the file and the CPU, and raises:
        AudioRejected: the file has no audio that can be decoded, or absurd values.
        AudioTooLong: it is longer than allowed, before the block that ends beyond the limit.
        OSError: the file itself cannot be read.
    """

    def __init__(self, file: BinaryIO, max_seconds: float, channel_mode: ChannelMode, name: str) -> None:
        self.warnings: list[AudioWarning] = []
        """Complete when the iteration has ended."""
        self._file = file
        self._max_seconds = max_seconds
        self._mode = channel_mode
        self._name = name
        self._samples = 0
        self._channels = 0
        """Channels of the output; 0 before the first block."""

    def __iter__(self) -> Generator[Signal, None, None]:
        """The blocks, in order."""
        opened = False
        try:
            parts = split(self._file)
        except TooManyParts as error:
            raise AudioRejected(f"is more than {MAX_PARTS} files one after another") from error
        for number, part in enumerate(parts, 1):
            subject = f"part {number} of {len(parts)} of the file" if len(parts) > 1 else "the file"
            try:
                container = open_container(part, self._name)
            except UnknownFormat:
                self._warn(WarningCode.INCOMPLETE, f"{subject} {_NOT_AUDIO}")
                continue
            opened = True
            with container:
                yield from self._decode_part(container, part, subject)
        if not self._samples:
            raise AudioRejected("holds no audio" if opened else _NOT_AUDIO)

    def _decode_part(self, container: InputContainer, part: Part, subject: str) -> Iterator[Signal]:
        stream, *others = [each for each in container.streams.audio if is_readable(each)]
        if others or len(container.streams.audio) > 1:
            self._warn(WarningCode.INCOMPLETE, f"{subject} has several audio streams: only the first was transcribed")
        declared = declared_seconds(container, stream, part)
        gain = self._gain(part, subject) if stream.codec_context.name.startswith("pcm_f") else 1.0
        decoded = reached = 0.0

        def frames() -> Iterator[av.AudioFrame]:
            nonlocal decoded, reached
            for frame in frames_of(container, stream):
                decoded += frame.samples / frame.sample_rate
                reached = max(decoded, (frame.time or 0.0) + frame.samples / frame.sample_rate)
                yield frame

        converter: Converter | None = None
        for rate, block in blocks_of(frames()):
            if converter is None or not converter.fits(rate, len(block)):
                if converter is not None:
                    yield from self._checked(converter.end())
                converter = self._new_converter(rate, len(block))
            yield from self._checked(converter.convert(block * np.float32(gain) if gain != 1 else block))
        if converter is not None:
            yield from self._checked(converter.end())
        self._check_length(declared, decoded, reached, subject)

    def _gain(self, part: Part, subject: str) -> float:
        """Factor for float samples: 1, or less if some are beyond +-1 and would be clipped. Reads the whole part."""
        peak = 0.0
        position = part.tell()
        part.seek(0)
        with open_container(part, self._name) as container:
            for _, block in blocks_of(frames_of(container, container.streams.audio[0])):
                peak = max(peak, float(np.abs(block).max()))
        part.seek(position)
        if not 1 < peak < np.inf:
            return 1.0
        self._warn(WarningCode.SCALED, f"{subject} has values up to {peak:g}, beyond 1: all were divided by that")
        return 1 / peak

    def _new_converter(self, rate: int, channels: int) -> Converter:
        if not MIN_RATE <= rate <= MAX_RATE:
            raise AudioRejected(f"declares {rate} samples a second, not {MIN_RATE} to {MAX_RATE}")
        if not 1 <= channels <= MAX_CHANNELS:
            raise AudioRejected(f"declares {channels} channels, not 1 to {MAX_CHANNELS}")
        if self._mode is ChannelMode.RIGHT and channels == 1:
            raise AudioRejected("has one channel only, no right one")
        if not self._channels:
            self._channels = channels if self._mode is ChannelMode.SPLIT else 1
        return Converter(rate, channels, self._mode, self._channels)

    def _checked(self, block: Signal) -> Iterator[Signal]:
        if not block.shape[1]:
            return
        if not np.isfinite(block).all():
            raise AudioRejected("holds values that are not numbers")
        self._samples += block.shape[1]
        # Resampling rounds up.
        if self._samples > self._max_seconds * SAMPLE_RATE + 1:
            raise AudioTooLong(f"is longer than {self._max_seconds:g} s")
        yield np.clip(block, -1, 1)  # resampling overshoots

    def _check_length(self, declared: float | None, decoded: float, reached: float, subject: str) -> None:
        if declared is None or declared > self._max_seconds or declared - decoded <= MISSING_SECONDS:
            return
        what = "ends early" if declared - reached > MISSING_SECONDS else "is damaged"
        self._warn(WarningCode.TRUNCATED, f"{subject} {what}: {decoded:.2f} of {declared:.2f} s")

    def _warn(self, code: WarningCode, message: str) -> None:
        self.warnings.append(AudioWarning(code, message))
