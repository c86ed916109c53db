"""The events of a stream. Times are ms of the whole stream's audio, however often it was connected again."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Word(_Event):
    """A word of a final, or of a file's segment.

    Example:
        >>> Word(word="hello", start_ms=100, end_ms=480, confidence=0.94).word
        'hello'
    """

    word: str
    """The word as recognised."""
    start_ms: int
    """Where it starts."""
    end_ms: int
    """Where it ends."""
    confidence: float
    """The engine's confidence, 0 to 1."""


class _ChannelEvent(_Event):
    channel: int = 0
    """The channel that it is about; 0 if the stream has one."""


class SpeechStarted(_ChannelEvent):
    """Somebody began to speak; sent only to a stream opened with `events=["speech"]`.

    Example:
        >>> with client.stream(events=["speech"]) as stream:
        ...     first = next(event for event in stream.transcribe(hello) if isinstance(event, SpeechStarted))
        >>> first.start_ms
        100
    """

    type: Literal["speech_started"] = "speech_started"
    """`speech_started`."""
    start_ms: int
    """First voiced sample."""


class SpeechStopped(_ChannelEvent):
    """The utterance ended, and its final is being decoded; sent only to a stream opened with `events=["speech"]`.

    Example:
        >>> with client.stream(events=["speech"]) as stream:
        ...     kinds = [event.type for event in stream.transcribe(hello)]
        >>> kinds[-2:]
        ['speech_stopped', 'final']
    """

    type: Literal["speech_stopped"] = "speech_stopped"
    """`speech_stopped`."""
    end_ms: int
    """End of the last voiced sample."""


class Level(_ChannelEvent):
    """How loud 100 ms of audio were, and whether they were voice; sent only to a stream opened with `events=["level"]`.

    One that waits to be read is replaced by the next, and the server leaves levels out while nothing is read.

    Example:
        >>> with client.stream(events=["level"]) as stream:
        ...     levels = [event for event in stream.transcribe(hello) if isinstance(event, Level)]
        >>> {level.end_ms % 100 for level in levels}
        {0}
    """

    type: Literal["level"] = "level"
    """`level`."""
    end_ms: int
    """Their end."""
    rms: float
    """Their RMS in 16-bit units, 0 to 32768."""
    threshold: float | None = None
    """RMS in 16-bit units from which audio counts as voice now; None: loudness does not decide."""
    voiced: bool
    """Whether they hold voice."""


class Partial(_ChannelEvent):
    """The open utterance's text so far; each replaces the one before.

    After `Reconnected` the text of the open utterance begins anew.

    Example:
        >>> partial = Partial(segment_seq=0, text="hello and welcome to", stable_chars=17)
        >>> partial.text[: partial.stable_chars]
        'hello and welcome'
    """

    type: Literal["partial"] = "partial"
    """`partial`."""
    segment_seq: int
    """Number of the utterance in its channel, the same as its final's."""
    text: str
    """All words recognised so far."""
    stable_chars: int = 0
    """How many characters at the beginning of `text` no later partial of this utterance changes."""


class Final(_ChannelEvent):
    """An utterance's text, which no longer changes.

    Example:
        >>> with client.stream() as stream:
        ...     finals = [event for event in stream.transcribe(hello) if isinstance(event, Final)]
        >>> [(final.segment_seq, final.text, final.start_ms) for final in finals]
        [(0, 'hello and welcome to the speech server', 100)]
    """

    type: Literal["final"] = "final"
    """`final`."""
    segment_seq: int
    """Number of the utterance: from 0, one more for each final of the channel."""
    text: str
    """The words. Empty after a commit if nothing was said."""
    start_ms: int
    """First voiced sample."""
    end_ms: int
    """End of the last voiced sample."""
    reason: str
    """Why the utterance ended, as in the protocol; `drain` or `closing`: no other server took the stream."""
    language: str = ""
    """The language recognised (primary subtag)."""
    latency_ms: int = 0
    """From the end of the utterance until the server sent this, in ms."""
    first_token_ms: int = 0
    """From the first voiced sample to the first text, in ms."""
    words: tuple[Word, ...] | None = None
    """The words with their times, where asked for and the engine can time them."""
    id: str | int | None = None
    """`id` of the commit that this final answers."""
    dropped_ms: int = 0
    """Audio that the server dropped since the previous final, because its engine was too slow, in ms."""


class Cleared(_Event):
    """Answers `clear`: the open utterance was dropped.

    Example:
        >>> with client.stream() as stream:
        ...     stream.clear()
        ...     next(stream)
        Cleared(type='cleared')
    """

    type: Literal["cleared"] = "cleared"
    """`cleared`."""


class Configured(_Event):
    """Answers `configure`: the settings in effect from the next utterance on.

    Example:
        >>> with client.stream() as stream:
        ...     stream.configure(vad_silence_ms=300)
        ...     next(stream).vad_silence_ms
        300
    """

    type: Literal["configured"] = "configured"
    """`configured`."""
    language: str
    """The language asked for."""
    hotwords: tuple[str, ...] = ()
    """Words to expect."""
    hotwords_used: bool = False
    """Whether the engine uses them."""
    vad_silence_ms: int
    """Silence in ms that ends an utterance."""
    endpointing: bool = True
    """Whether silence ends an utterance."""


class ServerWarning(_Event):
    """Something that the client should know; the stream goes on. Times in its text are the connection's.

    Example:
        >>> with client.stream() as stream:
        ...     stream.configure(vad_silence_ms=5)
        ...     next(stream).code
        'configure_refused'
    """

    type: Literal["warning"] = "warning"
    """`warning`."""
    code: str
    """Kind of the warning, as the protocol lists them."""
    message: str
    """A fact about the request or the audio, in words."""
    channel: int | None = None
    """The channel that it is about; None: the whole stream."""


class Ready(_Event):
    """What the server reported about itself when it took the stream.

    Example:
        >>> with client.stream() as stream:
        ...     stream.ready.backend
        'mock'
    """

    type: Literal["ready"] = "ready"
    """`ready`."""
    connection_id: str = ""
    """The server's name for the connection, as in its log."""
    backend: str = ""
    """Name of the engine."""
    language: str = "auto"
    """The language asked for."""
    words: bool = False
    """Whether finals have `words`."""
    hotwords_used: bool = False
    """Whether the engine uses the hotwords given."""
    vad_silence_ms: int = 0
    """Silence in ms that ends an utterance."""
    vad_threshold: float = 0
    """RMS in 16-bit units below which no frame is voiced."""


class Reconnecting(_Event):
    """The connection was lost or refused, and the stream is about to connect again.

    Example:
        >>> event = Reconnecting(reason="the server closed the connection with 1012", delay_seconds=0)
        >>> f"{event.reason}; trying again in {event.delay_seconds:.0f} s"
        'the server closed the connection with 1012; trying again in 0 s'
    """

    type: Literal["reconnecting"] = "reconnecting"
    """`reconnecting`."""
    reason: str
    """What happened, in words."""
    delay_seconds: float
    """When the next attempt is made."""


class Reconnected(_Event):
    """A server took the stream again.

    Example:
        >>> Reconnected(resent_ms=1840).resent_ms
        1840
    """

    type: Literal["reconnected"] = "reconnected"
    """`reconnected`."""
    resent_ms: int
    """Audio without a final that is sent again."""


class AudioLost(_ChannelEvent):
    """Audio of an open utterance was no longer kept when the connection was lost: its words may be missing.

    Example:
        >>> lost = AudioLost(start_ms=1000, end_ms=3500)
        >>> f"{(lost.end_ms - lost.start_ms) / 1000} s are missing"
        '2.5 s are missing'
    """

    type: Literal["audio_lost"] = "audio_lost"
    """`audio_lost`."""
    start_ms: int
    """Where the audio that was lost begins."""
    end_ms: int
    """Where it ends."""


Event = (
    SpeechStarted
    | SpeechStopped
    | Level
    | Partial
    | Final
    | Cleared
    | Configured
    | ServerWarning
    | Reconnecting
    | Reconnected
    | AudioLost
)
"""What a stream yields."""
