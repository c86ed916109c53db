"""What Prometheus scrapes: base units, bounded labels (never a call_id)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_KNOWN_CLOSE_CODES = frozenset({1000, 1001, 1005, 1006, 1008, 1009, 1011, 1012, 1013})
_LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0)
"""Seconds. 0.35 is the bar that users of voice agents compare with."""


class Metrics:
    """One server's metrics, in a registry of their own. Any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.connections = Counter("stt_connections", "WebSocket connections accepted as sessions.", registry=registry)
        self.sessions = Gauge("stt_sessions", "Open WebSocket sessions.", registry=registry)
        self.ready = Gauge("stt_ready", "1 while the engine is warm and able, else 0.", registry=registry)
        self.closes = Counter("stt_closes", "WebSocket connections ended, by close code.", ["code"], registry=registry)
        self.refusals = Counter(
            "stt_refused_handshakes", "WebSocket handshakes refused, by HTTP status.", ["status"], registry=registry
        )
        self.audio = Counter("stt_audio_seconds", "Seconds of audio heard.", ["source"], registry=registry)
        self.live_audio = self.audio.labels("websocket")
        """Looked up once: every connection counts on it."""
        self.in_queue = Gauge(
            "stt_in_queue_messages", "Messages waiting for the workers, all sessions.", registry=registry
        )
        self.out_queue = Gauge(
            "stt_out_queue_messages", "Messages waiting to be sent, all sessions.", registry=registry
        )
        self.dropped_messages = Counter(
            "stt_dropped_messages", "Audio messages dropped from full in queues.", registry=registry
        )
        self.dropped_audio = Counter(
            "stt_dropped_audio_seconds", "Seconds of audio dropped from full in queues.", registry=registry
        )
        self.dropped_partials = Counter(
            "stt_dropped_partials", "Partials dropped because the out queue was nearly full.", registry=registry
        )
        self.first_token = Histogram(
            "stt_first_token_seconds",
            "Arrival of an utterance's first voiced sample to its first text.",
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.final_latency = Histogram(
            "stt_final_latency_seconds",
            "Arrival of what ended an utterance to its final.",
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

    def closed(self, code: int) -> None:
        """Count the end of a connection; codes beyond the known ones share a label."""
        self.closes.labels(str(code) if code in _KNOWN_CLOSE_CODES else "other").inc()

    def render(self) -> bytes:
        """All metrics in the text format 0.0.4 of Prometheus."""
        return generate_latest(self.registry)
