"""The transcript of a file, and the progress of its transcription."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from stt_client.events import Word


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the transcription of a file is.

    Example:
        >>> steps = []
        >>> _ = client.transcribe("references/hello.wav", progress=steps.append)
        >>> steps[-1].sent_bytes == steps[-1].total_bytes
        True
    """

    sent_bytes: int
    """Bytes of the file that were sent."""
    total_bytes: int
    """Size of the file."""
    position_ms: int = 0
    """How far the server has decoded the file, in ms of its audio; reported every 10 s."""


ProgressListener = Callable[[Progress], object]
"""Called at each step."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Segment(_Model):
    """An utterance of a file. Times are ms of the file.

    Example:
        >>> client.transcribe("references/hello.wav").segments[0].end_ms
        2180
    """

    start_ms: int
    """First voiced sample."""
    end_ms: int
    """End of the last voiced sample."""
    text: str
    """Its words."""
    words: tuple[Word, ...] | None = None
    """The words with their times, where asked for and the engine can time them."""
    channel: int | None = None
    """Its channel, from 0; only with `channel_mode="split"`, of a file with several."""


class TranscriptWarning(_Model):
    """A fact about the request that the caller should know.

    Example:
        >>> [warning.code for warning in client.transcribe("references/hello.wav").warnings]
        []
    """

    code: str
    """What it is about."""
    message: str
    """The fact, in words."""


class Transcript(_Model):
    """What a file says.

    Example:
        >>> client.transcribe("references/hello.wav").text
        'hello and welcome to the speech server'
    """

    text: str
    """All segments' texts, joined."""
    duration_ms: int
    """Length of the audio."""
    language: str = ""
    """The language recognised (primary subtag)."""
    segments: tuple[Segment, ...] = ()
    """The utterances, in order."""
    warnings: tuple[TranscriptWarning, ...] = ()
    """Facts about the request."""
