"""The server's Prometheus metrics: base units, bounded labels (never a call_id)."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_KNOWN_CLOSE_CODES = frozenset({1000, 1001, 1005, 1006, 1008, 1009, 1011, 1012, 1013})
_LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Seconds. 0.35 s is a common target of voice agents."""


class Metrics:
    """One server's metrics, in a registry of their own. Any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.build = Info("stt_build", "Version of this server and name of its engine; always 1.", registry=registry)
        self.connections = Counter("stt_connections", "WebSocket connections accepted as sessions.", registry=registry)
        self.sessions = Gauge(
            "stt_sessions", "Open WebSocket sessions; one of two channels counts twice.", registry=registry
        )
        self.ready = Gauge("stt_ready", "1 while the engine is ready, else 0.", registry=registry)
        self.max_sessions = Gauge("stt_max_sessions", "STT_MAX_SESSIONS.", registry=registry)
        self.seconds_behind = Gauge(
            "stt_seconds_behind",
            "Seconds that the engine is behind live audio: the 90th percentile of live sessions.",
            registry=registry,
        )
        self.saturation = Gauge(
            "stt_saturation",
            "Part of the capacity in use: the larger of sessions to STT_MAX_SESSIONS and of stt_seconds_behind to 5 s. "
            "From 1 on new sessions are refused.",
            registry=registry,
        )
        self.loop_lag = Gauge(
            "stt_event_loop_lag_seconds",
            "Longest lag of the event loop in the last minute, in seconds.",
            registry=registry,
        )
        self.engine_restarts = Counter(
            "stt_engine_restarts", "Restarts of the engine after it died.", registry=registry
        )
        self.closes = Counter(
            "stt_closes",
            "WebSocket connections ended, by close code and by who closed: `server` or `client`.",
            ["code", "by"],
            registry=registry,
        )
        self.overload_closes = Counter(
            "stt_overload_closes",
            "Sessions closed with 1013, because the engine was too slow.",
            registry=registry,
        )
        self.refusals_by_reason = Counter(
            "stt_refusals",
            "Handshakes (`websocket`) and uploads (`http`) refused, by reason.",
            ["protocol", "reason"],
            registry=registry,
        )
        self.refusals = Counter(
            "stt_refused_handshakes", "WebSocket handshakes refused, by HTTP status.", ["status"], registry=registry
        )
        self.key_sessions = Gauge(
            "stt_key_sessions",
            "Open WebSocket sessions, by the name of the API key; one of two channels counts twice.",
            ["key"],
            registry=registry,
        )
        self.key_connections = Counter(
            "stt_key_connections",
            "WebSocket connections accepted as sessions, by the name of the API key.",
            ["key"],
            registry=registry,
        )
        self.key_requests = Counter(
            "stt_key_http_requests", "HTTP transcriptions, by the name of the API key.", ["key"], registry=registry
        )
        self.key_audio = Counter(
            "stt_key_audio_seconds",
            "Seconds of audio processed, by the name of the API key and by source; each channel of a WebSocket counts.",
            ["key", "source"],
            registry=registry,
        )
        self.audio = Counter(
            "stt_audio_seconds",
            "Seconds of audio processed; each channel of a WebSocket counts.",
            ["source"],
            registry=registry,
        )
        self.live_audio = self.audio.labels("websocket")
        """The label of live audio, looked up once, because every connection uses it."""
        self.in_queue = Gauge(
            "stt_in_queue_messages", "Messages waiting for the workers, all sessions.", registry=registry
        )
        self.out_queue = Gauge(
            "stt_out_queue_messages", "Messages waiting to be sent, all sessions.", registry=registry
        )
        self.queue_age = Gauge(
            "stt_in_queue_age_seconds",
            "Seconds that the oldest message in any inbound queue has waited.",
            registry=registry,
        )
        self.dropped_messages = Counter(
            "stt_dropped_messages", "Audio messages dropped from full inbound queues.", registry=registry
        )
        self.dropped_audio = Counter(
            "stt_dropped_audio_seconds",
            "Seconds of audio dropped from full inbound queues; each channel counts.",
            registry=registry,
        )
        self.dropped_partials = Counter(
            "stt_dropped_partials", "Partials dropped because the outbound queue was nearly full.", registry=registry
        )
        self.first_token = Histogram(
            "stt_first_token_seconds",
            "Delay from the arrival of an utterance's first voiced sample to its first text.",
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.final_latency = Histogram(
            "stt_final_latency_seconds",
            "Delay from the arrival of what ended an utterance to its final; commits with nothing said do not count.",
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.segments = Counter("stt_segments", "Finals sent, by reason.", ["reason"], registry=registry)
        self.inference = Counter("stt_inference_seconds", "Time the engine worked on results.", registry=registry)
        self.requests_in_progress = Gauge(
            "stt_http_requests_in_progress", "HTTP transcriptions running.", registry=registry
        )
        self.requests = Counter(
            "stt_http_requests", "Answers to HTTP transcription requests, by status.", ["status"], registry=registry
        )

    def create_labels(self, *, refusals: Iterable[str], final_reasons: Iterable[str], statuses: Iterable[int]) -> None:
        """Create every series at 0: a rate over a series that starts at 1 would miss the first event."""
        for code in _KNOWN_CLOSE_CODES:
            for by in ("server", "client"):
                self.closes.labels(str(code), by)
        for refusal in refusals:
            for protocol in ("websocket", "http"):
                self.refusals_by_reason.labels(protocol, refusal)
        for reason in final_reasons:
            self.segments.labels(reason)
        for status in statuses:
            self.requests.labels(str(status))
        for status in (401, 403, 404, 429, 503):
            self.refusals.labels(str(status))
        self.audio.labels("http")

    def closed(self, code: int, by: str) -> None:
        """Count the end of a connection. `by`: `server` or `client`. Unknown codes share a label."""
        self.closes.labels(str(code) if code in _KNOWN_CLOSE_CODES else "other", by).inc()

    def render(self) -> bytes:
        """All metrics in the text format 0.0.4 of Prometheus."""
        return generate_latest(self.registry)
