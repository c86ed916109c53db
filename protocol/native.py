"""Our own dialect, `/v1/stt/ws`: binary messages are audio, text messages are JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import parse_qsl

from pydantic import ValidationError

from protocol import events
from protocol import native_client_messages as client
from protocol import native_server_messages as wire
from protocol.dialect import (
    Close,
    Handshake,
    HttpRefusal,
    OutboundMessage,
    ServerInfo,
    SessionOptions,
    json_refusal,
)
from protocol.errors import BadRequest, CloseCode, ServiceError
from protocol.languages import require_supported
from protocol.native_audio import ClientAudio
from protocol.stream_audio import StreamFormat
from protocol.timed_word import timed_words

MAX_MESSAGE_BYTES = 256 * 1024
"""Longest message a client may send, in bytes: 8 s of audio."""


class NativeDialect:
    """Satisfies `protocol.dialect.Dialect`."""

    max_message_bytes = MAX_MESSAGE_BYTES

    def __init__(self, server: ServerInfo) -> None:
        self._server = server
        self._call_id = ""
        self._connection_id = ""
        self._params: client.ConnectParams | None = None
        self._audio: ClientAudio
        """Set by `open`."""

    def open(self, handshake: Handshake) -> SessionOptions | HttpRefusal:
        """Check the query.

        Raises:
            BadRequest: a parameter is wrong. A browser can read the message after the upgrade only.
        """
        self._connection_id = handshake.connection_id
        query = dict(parse_qsl(handshake.query, keep_blank_values=True))
        self._call_id = query.get("call_id", "")[:128]
        params = client.parse_connect(query)
        require_supported(params.language, self._server.languages)
        self._params = params
        source = StreamFormat(params.sample_rate, params.codec, params.channels)
        self._audio = ClientAudio(source, self._server.may_check)
        return SessionOptions(
            call_id=params.call_id,
            language=params.language,
            hotwords=params.hotwords,
            frame_ms=params.frame_ms,
            partial_ms=params.partial_ms,
            silence_ms=params.vad_silence_ms,
            vad_threshold=params.vad_threshold,
            words=params.words,
            levels="level" in params.events,
            channels=params.channels,
            binary_is_pcm=params.codec != "opus",
        )

    def refusal(self, error: ServiceError) -> HttpRefusal:
        """The body of our HTTP errors."""
        return json_refusal(error)

    def subprotocol(self, offered: Sequence[str]) -> str | None:  # noqa: ARG002 - any
        """This dialect has no subprotocol of its own."""
        return None

    def hello(self, now: float) -> Sequence[OutboundMessage]:
        """`ready`."""
        params, server = self._opened(), self._server
        ready = wire.Ready(
            call_id=params.call_id,
            created_at=now,
            sample_rate=params.sample_rate,
            codec=params.codec,
            channels=params.channels,
            frame_ms=params.frame_ms,
            partial_ms=params.partial_ms,
            language=params.language,
            backend=server.backend,
            connection_id=self._connection_id,
            hotwords_used=bool(params.hotwords) and server.uses_hotwords,
            vad_silence_ms=server.silence_ms if params.vad_silence_ms is None else params.vad_silence_ms,
            vad_threshold=server.vad_threshold if params.vad_threshold is None else params.vad_threshold,
            words=params.words and server.has_words,
            events=params.events,
        )
        return [ready.to_json()]

    def take(self, message: str | bytes) -> Iterable[events.Command]:
        """Binary messages are audio, text messages JSON. A binary message may hold such a text too."""
        if isinstance(message, bytes):
            if message[:1] != b"{" or message[-1:] != b"}":
                return self._audio.take(message)
            command = self._read(message)
            return self._audio.take(message) if isinstance(command, events.Unknown) else self._audio.in_order(command)
        return self._audio.in_order(self._read(message))

    def flush(self) -> Sequence[events.Audio]:
        """The samples that the resampler still holds."""
        return self._audio.flush()

    def _read(self, message: str | bytes) -> events.Command:
        try:
            return self._command(client.parse_client_message(message))
        except ValidationError as error:
            first = error.errors()[0]
            if first["loc"][:1] == ("configure",):
                return events.Reject(events.WarningCode.CONFIGURE_REFUSED, client.explain(first))
            return events.Unknown("text message is not one of commit, clear, configure, keepalive, finish")

    def _command(
        self, message: client.Commit | client.Clear | client.Configure | client.KeepAlive | client.Finish
    ) -> events.Command:
        match message:
            case client.Commit():
                return events.Commit(message.id)
            case client.Clear():
                return events.Clear()
            case client.Configure():
                return self._configure(message)
            case client.KeepAlive():
                return events.KeepAlive()
            case client.Finish():
                return events.Finish()

    def _configure(self, message: client.Configure) -> events.Command:
        if message.language is not None:
            try:
                require_supported(message.language, self._server.languages)
            except BadRequest as error:
                return events.Reject(events.WarningCode.CONFIGURE_REFUSED, str(error))
        return events.Configure(message.language, message.hotwords, message.vad_silence_ms, message.endpointing)

    def tell(self, event: events.Event, now: float) -> Sequence[OutboundMessage]:
        """One message for each event; `speech_started` and `speech_stopped` only if the client asked for them."""
        match event:
            case events.SpeechStarted() | events.SpeechStopped():
                return (self._speech(event, now).to_json(),) if self._wants_speech_events else ()
            case events.Hypothesis():
                return (self._partial(event, now).to_json(),)
            case events.Level():
                return (self._level(event, now).to_json(),)
            case events.Final():
                return (self._final(event, now).to_json(),)
            case _:
                return (self._answer(event, now).to_json(),)

    def _speech(
        self, event: events.SpeechStarted | events.SpeechStopped, now: float
    ) -> wire.SpeechStarted | wire.SpeechStopped:
        if isinstance(event, events.SpeechStarted):
            return wire.SpeechStarted(
                call_id=self._call_id, created_at=now, channel=self._channel(event), start_ms=event.start_ms
            )
        return wire.SpeechStopped(
            call_id=self._call_id, created_at=now, channel=self._channel(event), end_ms=event.end_ms
        )

    def _partial(self, event: events.Hypothesis, now: float) -> wire.Partial:
        return wire.Partial(
            call_id=self._call_id,
            created_at=now,
            channel=self._channel(event),
            segment_seq=event.segment_seq,
            text=event.text,
            stable_chars=event.stable_chars,
        )

    def _level(self, event: events.Level, now: float) -> wire.Level:
        return wire.Level(
            call_id=self._call_id,
            created_at=now,
            channel=self._channel(event),
            end_ms=event.end_ms,
            rms=round(event.rms, 1),
            threshold=None if event.threshold is None else round(event.threshold, 1),
            voiced=event.voiced,
        )

    def _final(self, event: events.Final, now: float) -> wire.Final:
        return wire.Final(
            call_id=self._call_id,
            created_at=now,
            channel=self._channel(event),
            segment_seq=event.segment_seq,
            text=event.text,
            first_token_ms=event.first_token_ms,
            latency_ms=event.latency_ms,
            segment_duration_ms=event.end_ms - event.start_ms,
            start_ms=event.start_ms,
            end_ms=event.end_ms,
            reason=event.reason,
            language=event.language,
            words=timed_words(event.words),
            id=event.commit_id,
            dropped_ms=event.dropped_ms or None,
        )

    def _answer(
        self, event: events.Warning | events.Cleared | events.Configured | events.Finished, now: float
    ) -> wire.Warning | wire.Cleared | wire.Configured | wire.Finished:
        match event:
            case events.Warning():
                return wire.Warning(
                    call_id=self._call_id,
                    created_at=now,
                    channel=self._channel(event),
                    code=event.code,
                    message=event.message,
                )
            case events.Cleared():
                return wire.Cleared(call_id=self._call_id, created_at=now)
            case events.Configured():
                return self._configured(event, now)
            case events.Finished():
                return wire.Finished(call_id=self._call_id, created_at=now)

    def _configured(self, event: events.Configured, now: float) -> wire.Configured:
        return wire.Configured(
            call_id=self._call_id,
            created_at=now,
            language=event.language,
            hotwords=event.hotwords,
            hotwords_used=bool(event.hotwords) and self._server.uses_hotwords,
            vad_silence_ms=event.silence_ms,
            endpointing=event.endpointing,
        )

    def goodbye(self, error: ServiceError | None, now: float) -> Close:
        """`error` with its close code; after `finished` only 1000."""
        if error is None:
            return Close((), CloseCode.NORMAL)
        last = wire.ErrorMessage(
            call_id=self._call_id,
            created_at=now,
            connection_id=self._connection_id,
            code=error.close_code,
            message=str(error),
        )
        return Close((last.to_json(),), error.close_code, str(error)[:120])

    def _channel(self, event: events.ChannelEvent) -> int | None:
        return event.channel if self._opened().channels > 1 else None

    @property
    def _wants_speech_events(self) -> bool:
        return "speech" in self._opened().events

    def _opened(self) -> client.ConnectParams:
        if self._params is None:
            raise AssertionError("the session is not open")
        return self._params
