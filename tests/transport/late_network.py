"""A client of a network that stalls, for the tests and the bench."""

from __future__ import annotations

import json
import socket
import time

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from tests.client import Message
from tests.patience import PATIENCE_SECONDS


class LateNetwork:
    """A client whose pongs are delayed together with its audio. Used by one thread."""

    def __init__(self, url: str) -> None:
        self._protocol = ClientProtocol(parse_uri(url))
        self._raw = socket.create_connection(
            (self._protocol.uri.host, self._protocol.uri.port), timeout=PATIENCE_SECONDS
        )
        self._protocol.send_request(self._protocol.connect())
        self._raw.sendall(b"".join(self._protocol.data_to_send()))
        self._protocol.receive_data(self._raw.recv(1 << 16))

    def __enter__(self) -> LateNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def send(self, pcm: bytes) -> None:
        """Send audio, and after it the delayed pongs."""
        pongs, audio = self._protocol.data_to_send(), Frame(Opcode.BINARY, pcm).serialize(mask=True)
        self._raw.sendall(audio + b"".join(pongs))

    def wait_for_pings(self, seconds: float) -> list[bytes]:
        """Receive for so long without sending anything; the payloads of the pings that came."""
        deadline = time.monotonic() + seconds
        pings: list[bytes] = []
        while time.monotonic() < deadline or not pings:
            pings += [bytes(frame.data) for frame in self._frames() if frame.opcode is Opcode.PING]
        return pings

    def final(self) -> Message:
        """The next final."""
        while True:
            for frame in self._frames():
                message: Message = json.loads(bytes(frame.data)) if frame.opcode is Opcode.TEXT else {}
                if message.get("type") == "final":
                    return message

    def _frames(self) -> list[Frame]:
        self._raw.settimeout(0.1)
        try:
            self._protocol.receive_data(self._raw.recv(1 << 16))
        except TimeoutError:
            return []
        return [event for event in self._protocol.events_received() if isinstance(event, Frame)]
