"""Counts the events of one connection in the metrics, and logs them if the connection ends abnormally."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any, Literal

from structlog.typing import FilteringBoundLogger as BoundLogger

from observability.metrics import Metrics
from observability.tracebacks import without_traceback

_LAST_EVENTS = 20
"""Last events that are logged when a connection ends abnormally."""
_LONGEST_USER_AGENT = 200
"""Characters of a user agent that are logged."""
_DROP_LOG_SECONDS = 5.0
"""Least time between two log lines about dropped audio."""
_NORMAL_CLOSES = frozenset({1000, 1001, 1005, 1012})


class ConnectionTelemetry:
    """One connection's events. Methods may be called from the event loop and the worker's thread at once."""

    def __init__(self, metrics: Metrics, log: BoundLogger, peer: str = "", user_agent: str = "", key: str = "") -> None:
        """`peer` is the client's address, `key` the name of its API key; logged with the handshake's outcome."""
        self.connection_id = os.urandom(6).hex()
        self._metrics = metrics
        self._log = log.bind(connection_id=self.connection_id)
        self._peer = {"peer": peer, "user_agent": user_agent[:_LONGEST_USER_AGENT]} | ({"key": key} if key else {})
        self._key = key
        self._audio = (metrics.live_audio, *([metrics.key_audio.labels(key, "websocket")] if key else []))
        self._began = time.monotonic()
        self._events: deque[str] = deque(maxlen=_LAST_EVENTS)
        self._peaks = {"in_queue": 0, "out_queue": 0}
        self._last_inference = 0.0
        self._audio_seconds = 0.0
        self._dropped = 0
        self._drop_logged = float("-inf")
        self._warned: set[str] = set()
        self._unknown_messages = 0

    def refused(self, status: int, path: str, reason: str, counted_as: str) -> None:
        """The handshake was answered with an HTTP status in place of an upgrade; `counted_as` is the metric's label."""
        self._metrics.refusals.labels(str(status)).inc()
        self._metrics.refusals_by_reason.labels("websocket", counted_as).inc()
        self._log.info("handshake_refused", status=status, path=path, reason=reason, **self._peer)

    def opened(self, call_id: str, **parameters: Any) -> None:  # noqa: ANN401 - whatever the log can print
        """The connection became a session."""
        self._metrics.connections.inc()
        if self._key:
            self._metrics.key_connections.labels(self._key).inc()
        self._note("opened")
        self._log = self._log.bind(call_id=call_id)
        self._log.info("session_opened", **self._peer, **parameters)

    def queued(self, queue: str, length: int) -> None:
        """A queue (`in_queue` or `out_queue`) reached `length` messages."""
        self._peaks[queue] = max(self._peaks[queue], length)

    def processed(self, seconds: float) -> None:
        """`seconds` of audio went through voice activity detection."""
        self._audio_seconds += seconds
        for counter in self._audio:
            counter.inc(seconds)

    def dropped(self, messages: int, seconds: float) -> None:
        """The inbound queue was full, and dropped `messages` with `seconds` of audio in all."""
        self._metrics.dropped_messages.inc(messages)
        self._metrics.dropped_audio.inc(seconds)
        self._dropped += messages
        now = time.monotonic()
        if now - self._drop_logged >= _DROP_LOG_SECONDS:
            self._drop_logged = now
            self._note(f"dropped {self._dropped}")
            self._log.warning("audio_dropped", dropped_messages=self._dropped)

    def partial_dropped(self) -> None:
        """A partial was dropped, because the outbound queue was too full."""
        self._metrics.dropped_partials.inc()
        self._note("partial dropped")

    def command_received(self, command: object) -> None:
        """The client sent a command other than audio."""
        self._note(type(command).__name__.lower())

    def not_understood(self) -> int:
        """The client sent text that is none of the protocol's messages. Returns how many came, which the end logs."""
        self._unknown_messages += 1
        return self._unknown_messages

    def warned(self, code: str, fact: str) -> None:
        """A warning was sent. The first of each code is logged."""
        if code not in self._warned:
            self._warned.add(code)
            self._log.warning("client_warned", code=code, fact=fact)

    def decoded(self, seconds: float) -> None:
        """The engine worked `seconds` on a result."""
        self._last_inference = seconds
        self._metrics.inference.inc(seconds)

    def final(self, reason: str, segment_seq: int, first_token_ms: int, latency_ms: int, *, speech: bool) -> None:
        """A final was sent. `speech`: something was voiced; a commit in silence does not count as a delay."""
        self._metrics.segments.labels(reason).inc()
        if speech:
            self._metrics.final_latency.observe(latency_ms / 1000)
        if first_token_ms:
            self._metrics.first_token.observe(first_token_ms / 1000)
        self._note(f"final {segment_seq} {reason} {latency_ms} ms")

    def failed(self, error: BaseException) -> None:
        """The connection's work failed with `error`, whose traceback is logged and then dropped."""
        self._note(f"failed {type(error).__name__}")
        self._log.error("session_failed", exc_info=error)
        without_traceback(error)

    def closed(self, code: int, message: str, by: Literal["server", "client"]) -> None:
        """The connection ended with this close code, which the server or the client sent (or the client vanished)."""
        self._metrics.closed(code, by)
        summary = {
            "code": code,
            "by": by,
            "reason": message,
            "seconds": round(time.monotonic() - self._began, 3),
            "audio_seconds": round(self._audio_seconds, 3),
        } | ({"unknown_messages": self._unknown_messages} if self._unknown_messages else {})
        if code in _NORMAL_CLOSES:
            self._log.info("session_closed", **summary)
            return
        self._log.warning(
            "session_ended_abnormally",
            **summary,
            last_events=list(self._events),
            queue_peaks=dict(self._peaks),
            dropped_messages=self._dropped,
            last_inference_seconds=round(self._last_inference, 4),
        )

    def _note(self, event: str) -> None:
        self._events.append(f"{time.monotonic() - self._began:.3f} {event}")
