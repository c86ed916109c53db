"""Finds the protocol object behind an ASGI scope."""

from __future__ import annotations

from starlette.types import Scope
from structlog.typing import FilteringBoundLogger

from transport.websocket_events import EXTENSION
from transport.websocket_protocol import SpeechWebSocketProtocol


class WebSocketProtocolFinder:
    """Finds a connection's `SpeechWebSocketProtocol`. Without it a client that does not read cannot be disconnected."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._warned = False

    def find(self, scope: Scope) -> SpeechWebSocketProtocol | None:
        """The protocol that put itself into the scope; None: another protocol class, which is logged once."""
        found: SpeechWebSocketProtocol | None = scope.get("extensions", {}).get(EXTENSION)
        if found is None and not self._warned:
            self._warned = True
            self._log.warning(
                "plain_websocket_protocol",
                lost="audio costs more CPU; control frames and the memory of long messages are not limited; a message "
                "may have as many bytes as --ws-max-size; a client that does not read counts as a session until it "
                "leaves; pings do not keep a client from being idle; no utterance ends as stalled; a throttled client "
                "whose pong is late is closed with 1011",
                use="--ws transport.websocket_protocol:SpeechWebSocketProtocol",
            )
        return found
