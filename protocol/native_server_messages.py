"""The server's messages on `/v1/stt/ws`. Each field is defined in its docstring, from which the docs are generated.

Compatibility: fields and message types are added, never changed or removed.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from protocol.events import Reason, WarningCode
from protocol.timed_word import TimedWord


class _ServerMessage(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    call_id: str
    """The client's name for this conversation; empty in an error about a missing one."""
    created_at: float
    """When the server made this message, Unix seconds."""

    def to_json(self) -> str:
        """The message as it goes over the wire."""
        return self.model_dump_json(exclude_none=True)


class _ChannelMessage(_ServerMessage):
    channel: int | None = None
    """The channel that it is about, 0 or 1; only with `channels=2`."""


class Ready(_ServerMessage):
    """The connection is accepted. Audio sent before it is not lost."""

    type: Literal["ready"] = "ready"
    """`ready`."""
    sample_rate: int
    """Sample rate in Hz that the server expects."""
    codec: str
    """Audio format that the server expects."""
    channels: int
    """Channels that the server expects."""
    frame_ms: int
    """The client's hint, in ms."""
    partial_ms: int
    """Least time in ms between two partials."""
    language: str
    """The language asked for."""
    backend: str
    """Name of the engine."""
    connection_id: str
    """The server's name for this connection, as in its log: tell it when you report a fault."""
    hotwords_used: bool
    """Whether the engine uses the hotwords given; false if none were."""
    vad_silence_ms: int
    """Silence in ms that ends an utterance."""
    vad_threshold: float
    """RMS in 16-bit units below which no frame is voiced; Silero ignores it."""
    words: bool
    """Whether finals have `words`: they were asked for, and the engine can time them."""
    events: tuple[str, ...]
    """The additional messages that `events` asked for."""


class SpeechStarted(_ChannelMessage):
    """An utterance started; sent with `events=speech`."""

    type: Literal["speech_started"] = "speech_started"
    """`speech_started`."""
    start_ms: int
    """First voiced sample, in ms of the connection's audio: the same as `start_ms` of the utterance's final."""


class SpeechStopped(_ChannelMessage):
    """The utterance ended and its final is being decoded; sent with `events=speech`."""

    type: Literal["speech_stopped"] = "speech_stopped"
    """`speech_stopped`."""
    end_ms: int
    """End of the last voiced sample, in ms of the connection's audio: the same as `end_ms` of the utterance's final."""


class Level(_ChannelMessage):
    """How loud 100 ms of audio were, and whether they were voice; sent with `events=level`."""

    type: Literal["level"] = "level"
    """`level`."""
    end_ms: int
    """End of the 100 ms, in ms of the connection's audio."""
    rms: float
    """RMS of the 100 ms, in 16-bit units, 0 to 32768."""
    threshold: float | None = None
    """RMS in 16-bit units from which a frame is voiced now: `vad_threshold`, or more in noise. Absent with
    Silero, which does not decide by loudness."""
    voiced: bool
    """Whether a frame of 20 ms among them is voiced."""


class Partial(_ChannelMessage):
    """The utterance's text so far. Each partial replaces the one before."""

    type: Literal["partial"] = "partial"
    """`partial`."""
    segment_seq: int
    """Number of the utterance in its channel, the same as its final's."""
    text: str
    """All words recognised so far."""
    stable_chars: int
    """How many characters (Unicode code points) at the beginning of `text` no later partial of this utterance changes.
    The final may."""
    final: Literal[False] = False
    """`false`."""


class Final(_ChannelMessage):
    """The utterance's text, which no longer changes."""

    type: Literal["final"] = "final"
    """`final`."""
    segment_seq: int
    """Number of the utterance: from 0, one more for each final of its channel."""
    text: str
    """The words. Empty after a commit if nothing was said."""
    final: Literal[True] = True
    """`true`."""
    first_token_ms: int
    """Delay in ms from the arrival of the first voiced sample to the first text; 0 if there was no text."""
    latency_ms: int
    """Delay in ms from the arrival of the last sample of the endpoint's silence, or of the `commit`, to this final."""
    segment_duration_ms: int
    """`end_ms` minus `start_ms`."""
    start_ms: int
    """First voiced sample, in ms of the connection's audio; dropped audio counts."""
    end_ms: int
    """End of the last voiced sample, in ms of the connection's audio; dropped audio counts."""
    reason: Reason
    """Why the utterance ended."""
    language: str
    """The language recognised (primary subtag); the language asked for where the engine cannot tell."""
    words: list[TimedWord] | None = None
    """The words with their times; only with `words=true` in the query, where the engine can time them."""
    id: str | int | None = None
    """`id` of the commit that this final answers; absent if it had none."""
    dropped_ms: int | None = None
    """Audio dropped since the channel's previous final, in ms, because the engine was too slow; absent if none was."""


class Warning(_ChannelMessage):  # noqa: A001 - the message's own name
    """Something that the client should know; the session goes on."""

    type: Literal["warning"] = "warning"
    """`warning`."""
    code: WarningCode
    """Kind of the warning, from the list below."""
    message: str
    """A fact about the request or the audio, in words."""


class Cleared(_ServerMessage):
    """Answers `clear`: no utterance is open."""

    type: Literal["cleared"] = "cleared"
    """`cleared`."""


class Configured(_ServerMessage):
    """Answers `configure`: the settings in effect from the next utterance on."""

    type: Literal["configured"] = "configured"
    """`configured`."""
    language: str
    """The language asked for."""
    hotwords: tuple[str, ...]
    """Words to expect."""
    hotwords_used: bool
    """Whether the engine uses them; false if there are none."""
    vad_silence_ms: int
    """Silence in ms that ends an utterance."""
    endpointing: bool
    """Whether silence ends an utterance."""


class Finished(_ServerMessage):
    """Answers `finish`: every final was sent. The close frame with 1000 follows."""

    type: Literal["finished"] = "finished"
    """`finished`."""


class ErrorMessage(_ServerMessage):
    """Why the server closes the connection; the close frame with the same code follows."""

    type: Literal["error"] = "error"
    """`error`."""
    connection_id: str
    """The server's name for this connection, as in its log."""
    code: int
    """The close code."""
    message: str
    """A fact about the request, in words."""
