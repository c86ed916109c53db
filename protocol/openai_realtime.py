"""OpenAI's dialect for live speech, `/v1/realtime?intent=transcription`: everything is JSON, audio is base64 in it.

OpenAI's clients treat an `error` event as the end, so it is sent only for mistakes of the client.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from protocol import events
from protocol.dialect import (
    Close,
    Handshake,
    HttpRefusal,
    OutboundMessage,
    ServerInfo,
    SessionOptions,
)
from protocol.errors import BadRequest, CloseCode, Idle, PayloadTooLarge, ServiceError
from protocol.json_values import is_sendable
from protocol.openai_audio import AudioDecoder, NotBase64
from protocol.openai_beta import read_beta_session
from protocol.openai_errors import BadParameter, OpenAiError, openai_error, openai_refusal
from protocol.openai_items import Items, ServerEvent
from protocol.openai_session import TranscriptionSession

MAX_MESSAGE_BYTES = 24 * 1024 * 1024
"""Longest message a client may send: OpenAI takes 15 MiB of audio in one, which base64 makes 20."""


class OpenAiRealtime:
    """Satisfies `protocol.dialect.Dialect`."""

    max_message_bytes = MAX_MESSAGE_BYTES

    def __init__(self, server: ServerInfo) -> None:
        self._server = server
        self._session = TranscriptionSession(server)
        self._decoder = AudioDecoder(self._session.format)
        self._items = Items("")
        self._connection_id = ""
        self._event_count = 0
        self._updated = False
        """Whether the client has sent a session.update."""
        self._updates: deque[tuple[ServerEvent, bool, int]] = deque()
        """Updates that are not in effect yet: the answer, whether turns are detected, and the padding in ms."""
        self._clears: deque[bool] = deque()
        """Clears that are not done yet: for each, whether the client asked for it."""
        self._refused: deque[tuple[OpenAiError, object]] = deque()
        """Refused updates that were not reported yet: the reason, and the client's id of the event."""

    def open(self, handshake: Handshake) -> SessionOptions | HttpRefusal:
        """Read the query and the session that the client's token was issued for; every model means the engine."""
        self._connection_id = handshake.connection_id
        self._items = Items(handshake.connection_id)
        model = parse_qs(handshake.query).get("model", [""])[0]
        self._session = TranscriptionSession(self._server, model)
        try:
            self._session.update(handshake.session)
        except BadParameter as error:
            return self.refusal(error)
        self._decoder = AudioDecoder(self._session.format)
        self._apply(self._session.detects_turns, self._session.padding_ms)
        asked = self._session.configure()
        return SessionOptions(
            language=asked.language or "",
            hotwords=asked.hotwords or (),
            silence_ms=asked.silence_ms,
            vad_threshold=asked.vad_threshold,
            endpointing=asked.endpointing is not False,
            context=asked.context or "",
            every_turn=True,
        )

    def refusal(self, error: ServiceError) -> HttpRefusal:
        """The object `error`, as over HTTP."""
        return openai_refusal(error)

    def subprotocol(self, offered: Sequence[str]) -> str | None:
        """`realtime`, which browsers offer beside the subprotocol with the key."""
        return "realtime" if "realtime" in offered else None

    def hello(self, now: float) -> Sequence[OutboundMessage]:  # noqa: ARG002 - sessions do not expire
        """`session.created`, which some clients wait for."""
        return self._messages([{"type": "session.created", "session": self._session_fields()}])

    # What the client sends

    def take(self, message: str | bytes) -> Iterable[events.Command]:
        """Read one event. Unknown ones are ignored."""
        try:
            event = json.loads(message)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            return (events.Unknown("the message is not a JSON object with a type"),)
        match event["type"]:
            case "input_audio_buffer.append":
                return self._append(event.get("audio"))
            case "input_audio_buffer.commit":
                return self._commit()
            case "input_audio_buffer.clear":
                return self._clear(asked=True)
            case "session.update" | "transcription_session.update":
                return self._update(event)
            case _:
                return (events.KeepAlive(),)

    def _append(self, audio: object) -> Iterable[events.Command]:
        try:
            pieces = self._decoder.decode(audio if isinstance(audio, str) else "?")
        except NotBase64:
            return (events.Unknown("input_audio_buffer.append: audio must be base64"),)
        return map(events.Audio, pieces)

    def _commit(self) -> Sequence[events.Command]:
        return (*self.flush(), events.Commit())

    def flush(self) -> Sequence[events.Audio]:
        """The samples that the conversion still holds."""
        held = self._decoder.flush()
        return (events.Audio(held),) if held else ()

    def _clear(self, *, asked: bool) -> Sequence[events.Command]:
        self._decoder.flush()
        self._clears.append(asked)
        return (events.Clear(),)

    def _update(self, event: Mapping[str, Any]) -> Sequence[events.Command]:
        before = self._session.format
        try:
            self._session.update(read_beta_session(_session_of(event)))
        except BadParameter as error:
            event_id = event.get("event_id")
            self._refused.append((openai_error(error), event_id if is_sendable(event_id) else None))
            return (events.Reject(events.WarningCode.CONFIGURE_REFUSED, str(error)),)
        answer = {"type": "session.updated", "session": self._session_fields()}
        self._updates.append((answer, self._session.detects_turns, self._session.padding_ms))
        commands: list[events.Command] = []
        if self._updated:
            # A client that reuses its connection for another stream begins with another update.
            commands += self._clear(asked=False)
        if self._session.format != before:
            self._decoder = AudioDecoder(self._session.format)
        self._updated = True
        return (*commands, self._session.configure())

    # What the server sends

    def tell(self, event: events.Event, now: float) -> Sequence[OutboundMessage]:  # noqa: ARG002 - nothing has a time
        """OpenAI's events for an event of the session. Dropped audio is only logged."""
        return self._messages(self._events_for(event))

    def _events_for(self, event: events.Event) -> Sequence[ServerEvent]:
        match event:
            case events.Hypothesis():
                return self._items.hypothesis(event)
            case events.SpeechStarted():
                return self._items.started(event)
            case events.SpeechStopped():
                return self._items.stopped(event)
            case events.Final():
                return self._items.final(event)
            case _:
                return self._answers_for(event)

    def _answers_for(self, event: events.Event) -> Sequence[ServerEvent]:
        match event:
            case events.Configured():
                answer, detects_turns, padding_ms = self._updates.popleft()
                self._apply(detects_turns, padding_ms)
                return (answer,)
            case events.Cleared():
                return self._items.cleared(asked=self._clears.popleft())
            case events.Warning(events.WarningCode.CONFIGURE_REFUSED):
                return (_error(*self._refused.popleft()),)
            case events.Warning(events.WarningCode.UNKNOWN_MESSAGE, message):
                return (_error(openai_error(BadRequest(message)), None),)
            case _:
                return ()

    def goodbye(self, error: ServiceError | None, now: float) -> Close:  # noqa: ARG002 - nothing has a time
        """The end of the open item, and an `error` event only if the client made a mistake."""
        last: list[ServerEvent] = self._items.finish()
        if isinstance(error, BadRequest | PayloadTooLarge) and not isinstance(error, Idle):
            last.append(_error(openai_error(error), None))
        code = CloseCode.NORMAL if error is None else error.close_code
        return Close(self._messages(last), code, str(error or "")[:120])

    def _apply(self, detects_turns: bool, padding_ms: int) -> None:
        self._items.detects_turns, self._items.padding_ms = detects_turns, padding_ms

    def _session_fields(self) -> dict[str, Any]:
        return self._session.shown(f"sess_{self._connection_id}")

    def _messages(self, told: Sequence[ServerEvent]) -> Sequence[OutboundMessage]:
        return [self._with_id(event) for event in told]

    def _with_id(self, event: ServerEvent) -> OutboundMessage:
        self._event_count += 1
        named = {"event_id": f"event_{self._connection_id}_{self._event_count}", **event}
        return json.dumps(named, ensure_ascii=False)


def _session_of(event: Mapping[str, Any]) -> Mapping[str, Any]:
    session = event.get("session")
    if not isinstance(session, dict):
        raise BadParameter("session must be an object", "session", "invalid_value")
    return session


def _error(error: OpenAiError, client_event_id: object) -> ServerEvent:
    return {"type": "error", "error": {**error.model_dump(), "event_id": client_event_id}}
