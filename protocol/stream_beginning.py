"""Checks the first seconds of a live stream: skips a WAV header, and detects a wrong label."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from protocol.opus_ogg import CAPTURE_PATTERN
from protocol.opus_webm import EBML
from protocol.sample_codecs import SAMPLE_BYTES, PcmCodec, decode_samples
from protocol.stream_audio import StreamFormat
from protocol.wav_header import MAX_HEADER_BYTES, Incomplete, WavHeader, read_header
from protocol.wrong_label import CHECKED_SECONDS, QUIET, checks

_MIN_SHARE = 0.75
"""Share of the checked seconds that is enough if the beginning is quiet."""
_MIN_SECONDS = 1.0
"""Least sound that is checked at a stream's end."""
_MAGIC: Mapping[bytes, str] = MappingProxyType(
    {
        b"RIFF": "a WAV file",
        CAPTURE_PATTERN: "an Ogg file",
        EBML: "a WebM file",
        b"fLaC": "a FLAC file",
        b"ID3\x02": "an MP3 file",
        b"ID3\x03": "an MP3 file",
        b"ID3\x04": "an MP3 file",
        b"FORM": "an AIFF file",
        b"caff": "a CAF file",
        b"#!AMR": "an AMR file",
        b".snd": "an AU file",
    }
)
_MAGIC_BYTES = 8
_OPUS_CONTAINERS = (CAPTURE_PATTERN, EBML)


class StreamBeginning:
    """Checks a stream once. No audio is dropped, whatever is found. Used by one thread.

    It buffers `CHECKED_SECONDS` of sound and a message, and a WAV header of at most 64 KiB.
    """

    def __init__(self, source: StreamFormat, may_check: Callable[[], bool] = lambda: True) -> None:
        """`may_check` is asked before each part of the check, except at an end; False: with a later message."""
        self._source = source
        self._header: bytes | None = b""
        """The WAV header so far; None: the header is over, or there is none."""
        self._first = b""
        self._sound = _FirstSound(source.codec, source, may_check) if source.codec != "opus" else None
        self.fault: str | None = None
        """The likely mistake in the label, in words."""

    @property
    def is_over(self) -> bool:
        """Whether the check is done."""
        return self._header is None and (self.fault is not None or self._sound is None or self._sound.is_over)

    def take(self, data: bytes) -> bytes:
        """The audio in the stream's next bytes."""
        if self._header is not None:
            data = self._without_header(self._header + data if self._header else data)
        if len(self._first) < _MAGIC_BYTES:
            self._first += data[: _MAGIC_BYTES - len(self._first)]
            self.fault = self.fault or self._named_container()
        if self.fault is None and self._sound is not None:
            self.fault = self._sound.take(data)
        return data

    def finish(self) -> None:
        """Check the audio so far, because the stream or an utterance ends."""
        if self.fault is None and self._sound is not None:
            self.fault = self._sound.finish()

    def _without_header(self, data: bytes) -> bytes:
        self._header = None
        if self._source.codec == "opus":
            return data
        try:
            header = read_header(data)
        except Incomplete:
            if len(data) < MAX_HEADER_BYTES:
                self._header = data
                return b""
            return data
        if header is None:
            return data
        self.fault = self._disagreement(header)
        return data[header.length :]

    def _disagreement(self, header: WavHeader) -> str | None:
        source = self._source
        said = f"{source.codec}, {source.sample_rate} Hz, channels: {source.channels}"
        found = f"{header.codec}, {header.rate} Hz, channels: {header.channels}"
        return None if said == found else f"the WAV header in front says {found}, not {said}"

    def _named_container(self) -> str | None:
        names = dict(_MAGIC)
        if self._source.codec == "opus":
            names = {magic: name for magic, name in names.items() if magic not in _OPUS_CONTAINERS}
        found = next((name for magic, name in names.items() if self._first.startswith(magic)), None)
        if self._first[4:8] == b"ftyp":
            found = "an MP4 file"
        return found and f"the audio begins like {found}, not like {self._source.codec}"


class _FirstSound:
    """Buffers a stream's bytes from its first sound on, and checks them once.

    It runs on the event loop, so each message is delayed by one check only.
    """

    def __init__(self, codec: PcmCodec, source: StreamFormat, may_check: Callable[[], bool]) -> None:
        self._codec = codec
        self._source = source
        self._may_check = may_check
        self._sample_bytes = SAMPLE_BYTES[codec] * source.channels
        self._unit = max(self._sample_bytes, SAMPLE_BYTES["pcm_f32le"])
        """Bytes of whole samples in every codec."""
        self._bytes_per_second = self._sample_bytes * source.sample_rate
        self._chunks: list[bytes] = []
        self._length = 0
        self._checks: deque[Callable[[], str | None]] | None = None
        """The checks that are left; None: they have not begun."""

    @property
    def is_over(self) -> bool:
        """Whether all checks are done."""
        return self._checks is not None and not self._checks

    def take(self, data: bytes) -> str | None:
        """The mistake that shows in the audio with the next bytes."""
        if self.is_over or not data:
            return None
        if self._checks is not None:
            return self._checks.popleft()() if self._may_check() else None
        self._chunks.append(data)
        self._length += len(data)
        if self._length < CHECKED_SECONDS * self._bytes_per_second:
            return None
        self._begin_checks(_MIN_SHARE * CHECKED_SECONDS)
        return None

    def finish(self) -> str | None:
        """The mistake that shows in the audio so far."""
        if self._checks is None:
            self._begin_checks(_MIN_SECONDS)
        found = None
        while self._checks and found is None:
            found = self._checks.popleft()()
        return found

    def _begin_checks(self, seconds: float) -> None:
        sound = self._from_first_sound(b"".join(self._chunks))
        self._chunks, self._length = [sound], len(sound)
        if len(sound) < seconds * self._bytes_per_second:
            return
        self._chunks = []
        source = self._source
        sound = sound[: int(CHECKED_SECONDS * self._bytes_per_second)]
        self._checks = deque(checks(sound, self._codec, source.sample_rate, channels=source.channels))

    def _from_first_sound(self, data: bytes) -> bytes:
        """The bytes without quiet samples in front."""
        whole = len(data) // self._sample_bytes * self._sample_bytes
        loud = np.abs(decode_samples(data[:whole], self._codec)) > QUIET
        first = int(loud.argmax()) if loud.any() else len(loud)
        return data[first * SAMPLE_BYTES[self._codec] // self._unit * self._unit :]
