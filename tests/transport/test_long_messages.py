"""Long messages, on the one path that allows them, and what they take together."""

from __future__ import annotations

import base64
import json
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from protocol.openai_realtime import MAX_MESSAGE_BYTES
from tests.client import connect, session
from tests.server import Server, eventually
from transport.websocket_protocol import MAX_FRAME_BYTES

MIB = 1 << 20
SESSION = '{"type": "session.update", "session": {"audio": {"input": {"turn_detection": null}}}}'


def _append(size: int) -> str:
    """An event of `size` bytes."""
    frame = '{"type": "input_audio_buffer.append", "audio": ""}'
    audio = base64.b64encode(bytes((size - len(frame)) // 4 * 3)).decode()
    return (frame[:-2] + audio + '"}').ljust(size)


def _url(server: Server) -> str:
    return f"ws://127.0.0.1:{server.port}/v1/realtime?intent=transcription"


def _committed(socket: ClientConnection) -> bool:
    socket.send('{"type": "input_audio_buffer.commit"}')
    while not (event := json.loads(socket.recv()))["type"].endswith(("completed", "error")):
        pass
    return bool(event["type"].endswith("completed"))


@pytest.mark.parametrize("fragments", [1, 25])
def test_the_longest_message_is_taken(mock_server: Server, fragments: int) -> None:
    """24 MiB, in one frame or in fragments."""
    message = _append(MAX_MESSAGE_BYTES)
    step = -(-len(message) // fragments)
    with connect(_url(mock_server), compression=None) as socket:
        socket.send(SESSION)
        parts = [message[first : first + step] for first in range(0, len(message), step)]
        socket.send(parts if fragments > 1 else message)
        assert _committed(socket)


def _close_code(socket: ClientConnection) -> int | None:
    with suppress(ConnectionClosed):
        while True:
            socket.recv()
    return socket.close_code


def _begin_message(socket: ClientConnection, size: int) -> None:
    """Send the header of a text message of `size` bytes, masked with zeros."""
    socket.socket.sendall(b"\x81\xff" + size.to_bytes(8) + bytes(4))


def test_a_longer_message_is_refused(mock_server: Server) -> None:
    """One byte more gets 1009, before any of it comes; our own path allows 1 MiB."""
    with connect(_url(mock_server)) as socket:
        _begin_message(socket, MAX_MESSAGE_BYTES + 1)
        codes = [_close_code(socket)]
    with session(mock_server.ws()) as client:
        _begin_message(client.socket, MAX_FRAME_BYTES + 1)
        codes.append(_close_code(client.socket))
    assert codes == [1009, 1009]


def test_unfinished_messages_have_a_bound_together(folder: Path) -> None:
    """Eleven clients send 24 MiB but for the last byte: the last one gets 1013, and when they are gone all is well."""
    message = _append(MAX_MESSAGE_BYTES).encode()
    with Server(folder, {"STT_BACKEND": "mock"}) as server:
        before = server.resident_bytes()
        with ExitStack() as stack:
            clients = [stack.enter_context(connect(_url(server), compression=None)) for _ in range(11)]
            for client in clients:
                client.recv()
                _begin_message(client, len(message))
                with suppress(OSError):  # the last one is refused in the middle
                    client.socket.sendall(message[:-1])
            code = _close_code(clients[-1])
            taken = server.resident_bytes() - before
            for client in clients:
                client.socket.close()
        eventually(lambda: server.metric("stt_sessions") == 0)
        with connect(_url(server), compression=None) as socket:
            socket.send(SESSION)
            socket.send(message.decode())
            assert _committed(socket)

    assert code == 1013
    assert taken < 400 * MIB
