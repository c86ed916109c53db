from __future__ import annotations

import pytest
from websockets.frames import Frame
from websockets.frames import Opcode as Theirs
from websockets.protocol import SERVER
from websockets.server import ServerProtocol

from bench.common.websocket_client import FrameReader, Opcode, client_frame, close_frame, handshake


@pytest.mark.parametrize("size", [0, 1, 125, 126, 640, 65_535, 65_536])
def test_client_frames(size: int) -> None:
    """A server reads back the payload of every frame, whichever of the three length fields it needs."""
    server = ServerProtocol()
    server.receive_data(handshake("/", 1))
    (request,) = server.events_received()
    server.send_response(server.accept(request))  # type: ignore[arg-type]
    server.receive_data(client_frame(Opcode.BINARY, bytes(size)) + close_frame())
    frame, goodbye = server.events_received()
    assert isinstance(frame, Frame)
    assert (server.side, frame.opcode, frame.data) == (SERVER, Theirs.BINARY, bytes(size))
    assert isinstance(goodbye, Frame)
    assert bytes(goodbye.data) == (1000).to_bytes(2)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_reader(chunk: int) -> None:
    """A server's frames come out whole and in order, however its bytes were cut."""
    sent = [(Opcode.TEXT, b"a" * 10), (Opcode.PING, b""), (Opcode.TEXT, b"b" * 200), (Opcode.TEXT, b"c" * 70_000)]
    wire = b"".join(Frame(Theirs(opcode), data).serialize(mask=False) for opcode, data in sent)
    reader = FrameReader()
    came = [each for first in range(0, len(wire), chunk) for each in reader.feed(wire[first : first + chunk])]
    assert came == sent


def test_reader_refuses() -> None:
    """What no server of ours sends, a fragment, is not misread."""
    with pytest.raises(ValueError, match="fragment"):
        list(FrameReader().feed(Frame(Theirs.TEXT, b"a", fin=False).serialize(mask=False)))
