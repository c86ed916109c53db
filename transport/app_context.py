"""The objects that all connections and requests share: the engine, admission, metrics and options."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from backends.base import StreamOptions
from inference.segmenter import SegmenterOptions
from inference.utterance_pipeline import UtterancePipeline
from inference.vad import VadOptions
from inference.vad_factory import MakeVad
from observability.metrics import Metrics
from protocol.dialect import ServerInfo
from protocol.errors import Forbidden
from transport.admission import Admission
from transport.api_keys import Keyring
from transport.backend_lifecycle import BackendLifecycle
from transport.byte_budget import ByteBudget
from transport.loop_lag import LoopLag
from transport.queue_options import QueueOptions
from transport.rate_limit import RateLimit
from transport.websocket_protocol_finder import WebSocketProtocolFinder
from transport.worker_scheduler import WorkerScheduler

MAX_LONG_MESSAGES_BYTES = 256 << 20
"""Most bytes of all long messages, of all connections, that are being received or read."""
MAX_CHECKS, CHECKS_WINDOW_SECONDS = 1, 0.07
"""At most one part of a check of labels runs in 70 ms, of all connections. A part blocks the event loop for up to 6 ms,
and a check has two parts for each channel. Without this limit the parts of streams that begin together would run one
after another: with 200 streams, p95 from endpoint to final was then 0.9 s."""


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """Time limits of a connection."""

    idle_seconds: float = 300.0
    """A client that sends nothing for so long is disconnected; 0: never."""
    max_silent_seconds: float = 3600.0
    """A client that sends no audio for so long is disconnected, even if it sends other messages; 0: never."""
    send_timeout_seconds: float = 10.0
    """A client that does not read for so long is disconnected."""


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """Who may use the server, and where a key may stand."""

    keys: Keyring = field(default_factory=lambda: Keyring(""))
    key_in_query: bool = False
    """Whether `api_key` in the query counts. Off by default: proxies and browser histories keep queries."""
    metrics_key_required: bool = False


@dataclass(frozen=True, slots=True)
class AppContext:
    """Built once, by `app`. Frozen; the state is in its members."""

    lifecycle: BackendLifecycle
    admission: Admission
    metrics: Metrics
    log: FilteringBoundLogger
    """Connections bind this logger: that costs a tenth of creating one."""
    protocols: WebSocketProtocolFinder
    scheduler: WorkerScheduler
    loop_lag: LoopLag
    queues: QueueOptions
    socket: SocketOptions
    segmenter: SegmenterOptions
    vad: VadOptions
    make_vad: MakeVad
    allowed_origins: Sequence[str] = ()
    """Browser origins that are admitted besides the server's own; `*`: all."""
    access: AccessOptions = field(default_factory=AccessOptions)
    label_checks: RateLimit = field(default_factory=lambda: RateLimit(MAX_CHECKS, CHECKS_WINDOW_SECONDS))
    message_memory: ByteBudget = field(default_factory=lambda: ByteBudget(MAX_LONG_MESSAGES_BYTES))

    def new_pipeline(
        self,
        options: StreamOptions,
        segmenter: SegmenterOptions | None = None,
        vad: VadOptions | None = None,
        *,
        levels: bool = False,
    ) -> UtterancePipeline:
        """Make the pipeline of one channel of live audio. Options that are not given are the server's. Any thread."""
        detector = self.make_vad(vad or self.vad)
        open_stream = self.lifecycle.backend.stream
        segmenter = segmenter or self.segmenter
        return UtterancePipeline(detector, segmenter, open_stream, options, levels=levels, finds_quiet_voice=True)

    def server_info(self) -> ServerInfo:
        """Facts about this server for a dialect."""
        backend = self.lifecycle.backend
        return ServerInfo(
            backend=backend.name,
            languages=backend.languages,
            uses_hotwords=backend.uses_hotwords,
            has_words=backend.has_words,
            silence_ms=self.segmenter.silence_ms,
            vad_threshold=self.vad.threshold,
            translates=backend.translates,
            may_check=lambda: self.label_checks.take(time.monotonic()),
        )

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Admit requests without an origin, from the server's own pages, and from the origins that the settings name.

        Apps and devices send origins such as `capacitor://localhost` and `file://`; `null` may be any sandboxed page.

        Raises:
            Forbidden: another page sent it.
        """
        origin = headers.get("origin")
        if origin is None or "*" in self.allowed_origins or origin in self.allowed_origins:
            return
        scheme, separator, host = origin.partition("://")
        is_page = scheme.lower() in ("http", "https")
        if not separator or (is_page and host != headers.get("host")):
            raise Forbidden
