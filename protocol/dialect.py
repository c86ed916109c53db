"""The interface of a dialect: a codec between one peer's messages and the session's commands and events.

A dialect is pure: it has no socket, no thread and no clock of its own. `transport` owns the connection, admission,
drain and time limits for all dialects. To add one, write a module with a class that has these methods, and add a line
to `DIALECTS` in `app.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from protocol.errors import KeyLimitReached, ServerBusy, ServiceError, Unauthorized
from protocol.events import Audio, Command, Event
from protocol.http_messages import RETRY_AFTER_SECONDS, HttpError
from protocol.languages import AUTO

OutboundMessage = str
"""A text message to the peer."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Facts about the server that a dialect checks requests against, or reports to its peer."""

    backend: str
    """Name of the engine."""
    languages: frozenset[str] | None
    """Primary subtags that the engine recognises; None: any."""
    uses_hotwords: bool
    has_words: bool
    """Whether the engine can time the words of finals."""
    silence_ms: int
    """The server's own setting: silence in ms that ends an utterance."""
    vad_threshold: float
    """The server's own setting: audio with a lower RMS, in 16-bit units, is no voice."""
    translates: bool = False
    """Whether the engine can translate into English."""
    may_check: Callable[[], bool] = lambda: True
    """Asked before each part of the check of a stream's label; False: later. All connections share the event loop."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """The request that opens a connection."""

    path: str
    query: str
    """Undecoded, without the question mark."""
    headers: Mapping[str, str]
    """Names in lower case."""
    connection_id: str = ""
    """The server's name for the connection, as in its log."""
    session: Mapping[str, Any] = field(default_factory=dict)
    """The session that the client's token was issued for, in the dialect's own format; empty: any."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """The options that a client connected with. None: the server's own setting."""

    call_id: str = ""
    """The client's name for the conversation, for the log."""
    language: str = AUTO
    """`auto`, or a BCP-47 tag that the engine supports."""
    hotwords: tuple[str, ...] = ()
    frame_ms: int = 20
    """Length in ms of the audio that the client means to put in each message."""
    partial_ms: int = 500
    """Least time in ms between two hypotheses."""
    silence_ms: int | None = None
    """Silence in ms that ends an utterance."""
    vad_threshold: float | None = None
    """Audio with a lower RMS, in 16-bit units, is no voice."""
    words: bool = False
    """Whether finals shall have their words with times."""
    endpointing: bool = True
    """Whether silence ends an utterance."""
    context: str = ""
    """Text that came before the speech or describes it."""
    every_turn: bool = False
    """Whether every utterance ends with a `SpeechStopped` and a `Final`, in the same order, even if nothing was said.

    If not, finals without text are left out, and so is a `SpeechStopped` that a slow client has no room for.
    """
    levels: bool = False
    """Whether `Level` is reported."""
    channels: int = 1
    """Channels of the audio, each with utterances of its own."""
    binary_is_pcm: bool = False
    """Whether binary messages that do not begin with `{` are PCM. Several may then come as one."""


@dataclass(frozen=True, slots=True)
class HttpRefusal:
    """An HTTP answer in place of the upgrade."""

    status: int
    body: str
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Close:
    """The last messages, and the close frame behind them."""

    messages: Sequence[OutboundMessage]
    code: int
    reason: str = ""
    """At most 123 bytes of UTF-8 (RFC 6455, section 5.5)."""


class Dialect(Protocol):
    """One connection's codec. Used on the event loop only."""

    @property
    def max_message_bytes(self) -> int:
        """Longest message a client may send, in bytes; a longer one ends the connection."""
        ...

    def open(self, handshake: Handshake) -> SessionOptions | HttpRefusal:
        """Read the request.

        Raises:
            ServiceError: it is wrong in a way that this dialect reports after the upgrade, by `goodbye`.
        """
        ...

    def refusal(self, error: ServiceError) -> HttpRefusal:
        """The answer if the server refuses the handshake: a wrong key, a foreign origin, a full server, a drain.

        It may be asked without `open`.
        """
        ...

    def subprotocol(self, offered: Sequence[str]) -> str | None:
        """Choose one of the WebSocket subprotocols that the client offered; None: the first of them.

        `offered` has none that carries a key. A browser fails if none of its offers is chosen.
        """
        ...

    def hello(self, now: float) -> Sequence[OutboundMessage]:
        """Messages to send once the session is open, at `now`, Unix seconds."""
        ...

    def take(self, message: str | bytes) -> Iterable[Command]:
        """Read a message. The commands are made one by one, so that a long message is processed in parts.

        Raises:
            ServiceError: it ends the connection, by `goodbye`.
        """
        ...

    def flush(self) -> Sequence[Audio]:
        """The audio that the dialect still holds, because the server ends the utterance. More audio may follow."""
        ...

    def tell(self, event: Event, now: float) -> Sequence[OutboundMessage]:
        """Messages that report `event` at `now`, Unix seconds."""
        ...

    def goodbye(self, error: ServiceError | None, now: float) -> Close:
        """The last messages and the close code, for an error, or (None) for a finished session."""
        ...


NewDialect = Callable[[ServerInfo], Dialect]
"""Creates the codec of a connection."""


def json_refusal(error: ServiceError) -> HttpRefusal:
    """Our own body of an HTTP error, with `Retry-After` if the same request may succeed later."""
    body = HttpError(code=error.http_status, message=str(error)).model_dump_json()
    return HttpRefusal(error.http_status, body, headers=refusal_headers(error))


def refusal_headers(error: ServiceError) -> Mapping[str, str]:
    """Headers that tell an HTTP client what to do: try again later, or send a key."""
    if error.http_status in (ServerBusy.http_status, KeyLimitReached.http_status):
        return {"retry-after": str(RETRY_AFTER_SECONDS)}
    return {"www-authenticate": "Bearer"} if isinstance(error, Unauthorized) else {}
