"""What every connection and request shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from backends.base import StreamOptions
from inference.detectors import MakeVad
from inference.listener import Listener
from inference.segmenter import Segmenter, SegmenterOptions
from inference.vad import VadOptions
from observability.metrics import Metrics
from protocol.errors import Forbidden
from transport.engine import Engine
from transport.inbound_queue import WorkerScheduler
from transport.queues import QueueOptions
from transport.sessions import Admission
from transport.websocket_protocol import TransportLookup


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """How long a connection may take."""

    idle_seconds: float = 300.0
    """A client that sends nothing for so long is closed; 0: never."""
    send_timeout_seconds: float = 10.0
    """A client that does not read for so long is cut off."""


@dataclass(frozen=True, slots=True)
class Services:
    """The engine, who may use it, and how; built once, by `app`."""

    engine: Engine
    admission: Admission
    metrics: Metrics
    log: FilteringBoundLogger
    """What connections tell goes to copies of it, which cost a tenth of a new logger."""
    transports: TransportLookup
    scheduler: WorkerScheduler
    queues: QueueOptions
    socket: SocketOptions
    segmenter: SegmenterOptions
    vad: VadOptions
    make_vad: MakeVad
    allowed_origins: Sequence[str] = ()
    """Browser origins let in besides the server's own; `*`: all."""

    def listener(
        self, options: StreamOptions, segmenter: SegmenterOptions | None = None, vad: VadOptions | None = None
    ) -> Listener:
        """A new source's ears, by the server's options where none are given; any thread."""
        detector = self.make_vad(vad or self.vad)
        return Listener(detector, Segmenter(segmenter or self.segmenter), lambda: self.engine.backend.stream(options))

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Let in what no browser page sent, the server's own pages, and the origins that the settings name.

        Raises:
            Forbidden: another page sent it.
        """
        origin = headers.get("origin")
        if origin is None or "*" in self.allowed_origins or origin in self.allowed_origins:
            return
        scheme, _, host = origin.partition("://")
        if scheme not in ("http", "https") or host != headers.get("host"):
            raise Forbidden
