"""What our WebSocket protocol tells the application beyond ASGI."""

from __future__ import annotations

from typing import Final

EXTENSION: Final = "stt.protocol"
"""Key of the ASGI scope's `extensions` under which the application finds the `SpeechWebSocketProtocol`."""
PONG_EVENT: Final = "stt.pong"
"""Type of an ASGI event: the pong of a ping that `ping` sent, with its payload as `bytes`."""
KEEPALIVE_EVENT: Final = "stt.keepalive"
"""Type of an ASGI event: the client sent pings or empty messages."""
FLOOD_EVENT: Final = "stt.flood"
"""Type of an ASGI event: the client sent too many control frames. From then on only its close is read."""
COUNT: Final = "stt.messages"
"""Key of a `websocket.receive` event: how many messages its bytes hold."""
