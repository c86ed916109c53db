"""Clients whose audio stops in the middle of an utterance, on a real server."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from tests.audio import reference, silence, text_of
from tests.client import Message, session
from tests.server import Server


def test_a_client_that_mutes_gets_its_final(mock_server: Server) -> None:
    """Its client library answers the ping; audio that comes later continues at the next sample."""
    hello = reference("hello")
    with session(mock_server.ws()) as client:
        client.send(hello)
        (first,) = client.finals(1)
        client.send(hello + silence(700))
        (second,) = client.finals(1)

    assert (first["reason"], first["text"]) == ("stalled", text_of("hello"))
    assert (second["reason"], second["text"]) == ("endpoint", text_of("hello"))
    assert second["start_ms"] - first["start_ms"] == len(hello) // 32


def test_without_endpointing_nothing_stalls(mock_server: Server) -> None:
    """As silence, an absence of audio then ends no utterance."""
    with session(mock_server.ws()) as client:
        client.command("configure", endpointing=False)
        client.send(reference("hello"))
        time.sleep(2)
        client.commit()
        (final,) = client.finals(1)

    assert (final["reason"], final["text"]) == ("commit", text_of("hello"))


def test_a_late_network_cuts_nothing(mock_server: Server) -> None:
    """Audio and pongs that are held up for 2 s and then come in a burst give the finals of an even stream."""
    hello = reference("hello") + silence(700)
    half = len(hello) // 4 * 2
    with LateNetwork(mock_server.ws()) as client:
        client.send(hello[:half])
        pings = client.wait_for_pings(2)
        client.send(hello[half:])
        final = client.final()

    assert (final["reason"], final["text"], final["segment_seq"]) == ("endpoint", text_of("hello"), 0)
    assert len(set(pings)) == 1


def test_a_stall_does_not_end_the_keepalive(folder: Path) -> None:
    """A client that answers the last of several pings only (RFC 6455, section 5.5.3) stays connected."""
    ping = ("--ws-ping-interval", "0.5", "--ws-ping-timeout", "1")
    with Server(folder, {"STT_BACKEND": "mock"}, arguments=ping) as server, session(server.ws()) as client:
        client.send(reference("hello"))
        client.finals(1)
        time.sleep(2)
        client.commit()
        assert client.finals(1)[0]["reason"] == "commit"


class LateNetwork:
    """A client whose pongs travel behind audio that is held up."""

    def __init__(self, url: str) -> None:
        self._protocol = ClientProtocol(parse_uri(url))
        self._raw = socket.create_connection((self._protocol.uri.host, self._protocol.uri.port), timeout=20)
        self._protocol.send_request(self._protocol.connect())
        self._raw.sendall(b"".join(self._protocol.data_to_send()))
        self._protocol.receive_data(self._raw.recv(1 << 16))

    def __enter__(self) -> LateNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def send(self, pcm: bytes) -> None:
        """Send audio, and behind it the pongs that were held up."""
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
