"""Commands to a session, and events that it reports: plain values, without the names on the wire.

Dialects turn a peer's messages into commands, and events into a peer's messages. Times are ms of the session's audio,
counted in samples from its first one; dropped audio counts. `channel` counts from 0: the first or only one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why an utterance ended."""

    ENDPOINT = "endpoint"
    """The speaker was silent for as long as ends an utterance."""
    COMMIT = "commit"
    """The client committed the utterance."""
    MAX_LENGTH = "max_length"
    """The utterance reached STT_VAD_MAX_SEGMENT_MS and was cut at a quiet point."""
    STALLED = "stalled"
    """The client sent no more audio in the middle of the utterance, and none was on its way."""
    FINISH = "finish"
    """The client finished the session."""
    DRAIN = "drain"
    """The server is restarting."""
    CLOSING = "closing"
    """The server is closing the connection for another reason, which the error that follows names."""


class WarningCode(StrEnum):
    """Codes of warnings, on the WebSocket and over HTTP."""

    AUDIO_DROPPED = "audio_dropped"
    """Live audio was dropped because the engine was too slow; the message names the span in ms of the stream."""
    UNKNOWN_MESSAGE = "unknown_message"
    """The client sent text that is no message of this protocol. It is ignored; only the first is reported."""
    CONFIGURE_REFUSED = "configure_refused"
    """A change of settings had a value that the server cannot use; the settings stay as they were."""
    TOO_QUIET = "too_quiet"
    """Live audio sounds like speech but lies below the detector's threshold; the message says how loud it is. It comes
    once."""
    DAMAGED = "damaged"
    """Opus packets, Ogg pages or WebM clusters were lost or cannot be read; the rest is transcribed. A packet that
    cannot be decoded counts as silence. Only the first fault is reported."""
    WRONG_LABEL = "wrong_label"
    """The audio is probably not what the client declared; the message names the likely mistake. The audio is processed
    all the same. It comes once."""
    TRUNCATED = "truncated"
    """A file holds less audio than it declares; what it holds was transcribed."""
    INCOMPLETE = "incomplete"
    """A part of a file, or one of its audio streams, was not transcribed."""
    SCALED = "scaled"
    """A file's samples went beyond full scale and were divided by their peak."""
    NO_SPEECH = "no_speech"
    """Nothing in a file counted as speech; the message says how loud it was, and which RMS would have counted."""


# Commands


@dataclass(frozen=True, slots=True)
class Audio:
    """The next bytes of the session's audio: signed 16-bit little-endian at 16 kHz, its channels interleaved."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """End the utterance now, in each channel.

    One `Final` a channel with reason `commit` and this `id` answers it, empty if nothing was said there.
    """

    id: str | int | None = None


@dataclass(frozen=True, slots=True)
class Clear:
    """Drop the open utterance of each channel. `Cleared` answers it; finals that are being decoded still come."""


@dataclass(frozen=True, slots=True)
class Configure:
    """Change settings from the next utterance on; None leaves a setting as it is. `Configured` answers it."""

    language: str | None = None
    """`auto`, or a BCP-47 tag that the engine supports."""
    hotwords: tuple[str, ...] | None = None
    silence_ms: int | None = None
    """Silence in ms that ends an utterance, 100 to 5000."""
    endpointing: bool | None = None
    """Whether silence ends an utterance at all."""
    vad_threshold: float | None = None
    """Audio with a lower RMS, in 16-bit units, is no voice. It counts at once, not from the next utterance on."""
    context: str | None = None
    """Text that came before the speech or describes it."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Change nothing and answer with a `Warning`: the peer asked for something that cannot be done."""

    code: WarningCode
    message: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message that the dialect does not know. It is counted; the first is answered with a `Warning`."""

    message: str
    """A fact about the message, in words, that does not repeat it."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Restarts the idle timer. Not answered."""


@dataclass(frozen=True, slots=True)
class Finish:
    """End the open utterance and report its final, then `Finished`. What the client sends afterwards is ignored."""


@dataclass(frozen=True, slots=True)
class Stall:
    """From the server itself: no audio comes, and none is on its way. An open utterance ends as if by silence."""


Command = Audio | Commit | Clear | Configure | Reject | Unknown | KeepAlive | Finish | Stall


# Events


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """An utterance began."""

    start_ms: int
    """First voiced sample."""
    channel: int = 0


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """An utterance ended. Its final follows, unless no word was recognised."""

    end_ms: int
    """End of the last voiced sample."""
    reason: Reason = Reason.ENDPOINT
    channel: int = 0


@dataclass(frozen=True, slots=True)
class Level:
    """How loud 100 ms of audio were, and whether they were voice."""

    end_ms: int
    """Their end."""
    rms: float
    """RMS of the 100 ms in 16-bit units."""
    threshold: float | None
    """RMS in 16-bit units from which the frame that follows is voiced; None: loudness does not decide."""
    voiced: bool
    """Whether at least one frame was voiced."""
    channel: int = 0


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The open utterance's text so far. Each hypothesis replaces the one before."""

    segment_seq: int
    """Number of the utterance, the same as its final's."""
    text: str
    stable_chars: int
    """Unicode code points at the beginning of `text` that no later hypothesis of this utterance changes."""
    channel: int = 0


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a final."""

    word: str
    start_ms: int
    end_ms: int
    confidence: float
    """0 to 1."""


@dataclass(frozen=True, slots=True)
class Final:
    """An utterance's text, which no longer changes."""

    segment_seq: int
    """From 0, one more for each final of its channel."""
    text: str
    start_ms: int
    """First voiced sample."""
    end_ms: int
    """End of the last voiced sample."""
    reason: Reason
    language: str
    """Primary subtag of the language recognised; the language asked for where the engine cannot tell."""
    first_token_ms: int
    """From the arrival of the first voiced sample to the first text; 0 if there was none."""
    ended: float
    """When the last sample of the silence that ended the utterance came, or the command that ended it, monotonic
    seconds."""
    latency_ms: int = 0
    """From `ended` until the final was sent; set by the send loop."""
    words: tuple[Word, ...] | None = None
    """Words with times; None: the engine gives none."""
    commit_id: str | int | None = None
    """`id` of the commit that this final answers."""
    dropped_ms: int = 0
    """Audio dropped since the channel's previous final, in ms, because the engine was too slow."""
    channel: int = 0


@dataclass(frozen=True, slots=True)
class Warning:  # noqa: A001 - the word that every dialect uses
    """Something about the session that the client should know; the session goes on."""

    code: WarningCode
    message: str
    """A fact about the request or the audio, in words."""
    channel: int | None = None
    """The channel that it is about; None: the whole session."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """The open utterance, if there was one, was dropped."""


@dataclass(frozen=True, slots=True)
class Configured:
    """The settings in effect from the next utterance on."""

    language: str
    hotwords: tuple[str, ...]
    silence_ms: int
    endpointing: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """Everything that `Finish` asked for was reported; the connection closes."""


ChannelEvent = SpeechStarted | SpeechStopped | Level | Hypothesis | Final | Warning
Event = ChannelEvent | Cleared | Configured | Finished
