"""uvicorn's WebSocket protocol, corrected where it ends connections."""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode
from websockets.protocol import State

_FLUSH_SECONDS = 1.0
"""How long a close frame may wait behind what the client does not read."""


class UvicornWebSocket(WebSocketsSansIOProtocol):
    """Speaks WebSocket as uvicorn does. Used on the event loop."""

    def handshake_refused(self) -> None:
        """The application has answered the handshake over HTTP. uvicorn would log that there was no answer."""
        self.handshake_complete = True

    def send_receive_event_to_app(self) -> None:
        """See uvicorn, which logs a traceback of its own if a text message is not UTF-8."""
        if self.curr_msg_data_type == "text" and not _is_utf8(b"".join(self.frames)):
            self.frames = []
            self.fail(CloseCode.INVALID_DATA, "a text message that is not UTF-8")
        else:
            super().send_receive_event_to_app()

    def fail(self, code: int, reason: str) -> None:
        """Close the connection, because the client broke a rule."""
        if self.conn.state is State.OPEN:
            self.conn.fail(code, reason)
            self.handle_parser_exception()  # sends the close frame and ends the connection

    def keepalive_timeout(self) -> None:
        """See uvicorn, whose close waits for ever if the client reads nothing."""
        closing = self.close_sent or self.transport.is_closing()
        super().keepalive_timeout()
        if not closing:
            self.loop.call_later(_FLUSH_SECONDS, self.transport.abort)

    def shutdown(self) -> None:
        """See uvicorn, which raises `InvalidState` if a client has sent its close frame, but not read the answer."""
        if self.handshake_complete and not self.close_sent and self.conn.state is not State.OPEN:
            self.transport.abort()
        else:
            super().shutdown()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
