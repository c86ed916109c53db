"""The interface of a dialect for files over HTTP: a codec between a request, the transcription and its answer.

Pure, as `protocol.dialect`: `transport` receives the upload, decodes and sends. An answer is one body, or server-sent
events while the file is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from protocol import events
from protocol.channels import ChannelMode
from protocol.dialect import HttpRefusal, ServerInfo
from protocol.errors import ServiceError
from protocol.languages import AUTO
from protocol.unspaced_scripts import join_texts


@dataclass(frozen=True, slots=True)
class FileOptions:
    """The options of a request. None: the server's own setting."""

    language: str = AUTO
    """`auto`, or a BCP-47 tag that the engine supports."""
    hotwords: tuple[str, ...] = ()
    context: str = ""
    """Text that came before the file or describes it."""
    words: bool = False
    """Whether segments shall have their words with times."""
    translate: bool = False
    """Whether the text shall be English; only where the engine translates."""
    silence_ms: int | None = None
    """Silence in ms that ends a segment."""
    vad_threshold: float | None = None
    """Audio with a lower RMS, in 16-bit units, is no voice."""
    channel_mode: ChannelMode = ChannelMode.MIX
    stream: bool = False
    """Whether the answer shall be server-sent events."""


@dataclass(frozen=True, slots=True)
class FileSegment:
    """One utterance of a file."""

    start_ms: int
    """First voiced sample."""
    end_ms: int
    """End of the last voiced sample."""
    text: str
    words: tuple[events.Word, ...] | None = None
    """Words with times; None: the engine gives none."""
    channel: int | None = None
    """Its channel, from 0; None: the file is transcribed as one."""


@dataclass(frozen=True, slots=True)
class FileProgress:
    """How far a file has been decoded."""

    position_ms: int


@dataclass(frozen=True, slots=True)
class FileTranscript:
    """The result of a transcription."""

    segments: Sequence[FileSegment]
    duration_ms: int
    language: str
    """The most frequent language among the segments; the language asked for where the engine cannot tell."""
    warnings: Sequence[events.Warning]
    latency_ms: int
    """From the upload's last byte, in ms."""

    @property
    def text(self) -> str:
        """All segments' texts, joined by a space, or by nothing in scripts without spaces between words."""
        return join_texts(segment.text for segment in self.segments)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """The body of an answer with status 200."""

    body: str
    content_type: str = "application/json"


class FileDialect(Protocol):
    """One upload's codec, used by one thread at a time.

    `answer` and `finish` are called beside the event loop, as they take 65 ms for two hours with words; all else on it.
    """

    def open(self, query: str, fields: Sequence[tuple[str, str]]) -> FileOptions:
        """Read the request: its query, undecoded, and the fields of its form, but for the file.

        Raises:
            ServiceError: it cannot be served.
        """
        ...

    def refusal(self, error: ServiceError) -> HttpRefusal:
        """The answer in place of a transcript."""
        ...

    def answer(self, transcript: FileTranscript) -> HttpAnswer:
        """The whole answer."""
        ...

    def report(self, event: FileSegment | FileProgress) -> Sequence[str]:
        """Data of the server-sent events that report `event`, while the file is decoded."""
        ...

    def finish(self, transcript: FileTranscript) -> Sequence[str]:
        """Data of the last server-sent events."""
        ...

    def failure(self, error: ServiceError) -> Sequence[str]:
        """Data of the last server-sent events when `error` ended the transcription."""
        ...


NewFileDialect = Callable[[ServerInfo], FileDialect]
"""Creates the codec of an upload."""
