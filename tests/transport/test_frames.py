"""uvicorn's events are the same whether it read a client's bytes alone or was given what is unusual only."""

from __future__ import annotations

import asyncio
import socket
import weakref
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from bench.common.websocket_client import Opcode, client_frame, close_frame, handshake
from tests.garbage import nobody_looks
from transport import frames
from transport.frames import Frames

LARGEST = 100_000
"""Bytes of a message that uvicorn lets in here."""
GOODBYE = "goodbye"
"""A text upon which the application closes."""
BIT_FIN, BIT_COMPRESSED = 0x80, 0x40
PATIENCE = 8
"""Seconds; less than the 10 that uvicorn waits for a client to answer its close."""
BROKEN = {1002, 1007, 1009}
Event = MutableMapping[str, Any]


def frame(kind: int, payload: bytes, mask: bytes = b"\1\2\3\4") -> bytes:
    """With this first byte, and masked."""
    whole = client_frame(Opcode.BINARY, payload)
    header = len(whole) - len(payload) - 4
    masked = bytes(byte ^ mask[number % 4] for number, byte in enumerate(payload))
    return bytes((kind,)) + whole[1:header] + mask + masked


def audio(size: int) -> bytes:
    return frame(BIT_FIN | Opcode.BINARY, bytes(number * 7 % 256 for number in range(size)))


async def told(
    pieces: Sequence[bytes],
    *,
    shared: bool,
    largest: int = LARGEST,
    watch: Callable[[WebSocketsSansIOProtocol], object] = id,
) -> tuple[list[Event], bytes]:
    """What an application hears, and its client, of a real connection that brings these pieces one by one.

    `shared`: its frames are read by `Frames` too. `watch` is shown uvicorn's protocol.
    """
    events: list[Event] = []

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        events.append(await receive())
        await send({"type": "websocket.accept"})
        if shared:
            frames.take_over(transport)
        while events[-1]["type"] != "websocket.disconnect":
            events.append(await receive())
            if events[-1].get("text") == GOODBYE:
                with suppress(RuntimeError):  # uvicorn was first
                    await send({"type": "websocket.close", "code": 1008})

    config = Config(app, ws_max_size=largest, ws_ping_interval=None, log_config=None)
    config.load()
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as client:
        client.setblocking(False)
        accepted, _ = listener.accept()
        transport, protocol = await loop.connect_accepted_socket(
            lambda: WebSocketsSansIOProtocol(config, ServerState(), {}), accepted
        )
        await loop.sock_sendall(client, handshake("/", 80))
        assert (await loop.sock_recv(client, 1000)).startswith(b"HTTP/1.1 101")
        assert isinstance(transport.get_protocol(), Frames) == shared
        watch(protocol)
        for piece in pieces:
            if not transport.is_closing():
                reader = transport.get_protocol()
                assert isinstance(reader, asyncio.Protocol)
                reader.data_received(piece)
            await asyncio.sleep(0)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while more := await loop.sock_recv(client, 1 << 20):
            answer += more
        await asyncio.gather(*protocol.tasks)
    return events, answer


async def both(pieces: Sequence[bytes], largest: int) -> tuple[list[Event], bytes]:
    alone = await told(pieces, shared=False, largest=largest)
    together = await told(pieces, shared=True, largest=largest)
    codes = {alone[0][-1]["code"], together[0][-1]["code"]}
    # Of what it reads with a broken frame uvicorn heeds that frame alone: it may have heard less.
    less = alone[0][:-1]
    assert together == alone or (codes <= BROKEN and together[0][: len(less)] == less)
    return together


def run(pieces: Sequence[bytes], largest: int = LARGEST) -> tuple[list[Event], bytes]:
    return uvloop.run(asyncio.wait_for(both(pieces, largest), PATIENCE))


usual = st.one_of(
    st.sampled_from([0, 1, 125, 126, 127, 640]).map(audio),
    st.just(frame(BIT_FIN | Opcode.TEXT, b'{"type": "commit"}')),
    st.binary(max_size=125).map(lambda payload: frame(BIT_FIN | Opcode.PING, payload)),
    st.binary(max_size=125).map(lambda payload: frame(BIT_FIN | Opcode.PONG, payload)),
)
unusual = st.one_of(
    st.sampled_from([0xFFFF, 0x10000, LARGEST, LARGEST + 1]).map(audio),
    st.sampled_from([frame(BIT_FIN | Opcode.TEXT, text) for text in (GOODBYE.encode(), b"", "ä".encode())]),
    st.sampled_from([close_frame(), close_frame(1001), close_frame(2), frame(BIT_FIN | Opcode.CLOSE, b"")]),
    st.sampled_from([Opcode.BINARY, Opcode.TEXT, 0]).map(lambda opcode: frame(opcode, b"part")),
    st.just(frame(BIT_FIN, b"last part")),
    st.just(frame(BIT_FIN | Opcode.PING, bytes(126))),
    st.just(frame(BIT_FIN | BIT_COMPRESSED | Opcode.BINARY, b"deflated")),
    st.just(b"\x82\x04abcd"),
    st.just(b"\x89\x00"),
    st.binary(min_size=1, max_size=20),
)


@given(st.data())
def test_events_are_as_if_uvicorn_had_read_alone(data: st.DataObject) -> None:
    """Whatever a client sends, however it is cut into pieces: the same messages in the same order, the same answers."""
    sent = b"".join(data.draw(st.lists(st.one_of(usual, usual, unusual), max_size=8)))
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=6))
    edges = sorted({0, *cuts, len(sent)})
    run([sent[first:last] for first, last in pairwise(edges)])


@given(st.lists(st.one_of(usual, unusual.filter(lambda sent: len(sent) < 1000)), max_size=6))
def test_events_are_the_same_byte_by_byte(sent: list[bytes]) -> None:
    """To the last message before a broken frame."""
    pieces = [bytes((byte,)) for byte in b"".join(sent)]

    async def conversation() -> None:
        assert await told(pieces, shared=True) == await told(pieces, shared=False)

    uvloop.run(asyncio.wait_for(conversation(), PATIENCE))


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_message_in_two_pieces(cut: int) -> None:
    """Cut anywhere, in its header or after it."""
    sent = audio(300) + audio(2) + frame(BIT_FIN | Opcode.TEXT, b"text") + audio(4)
    events, _ = run([sent[:cut], sent[cut:]])
    assert [len(event.get("bytes") or event.get("text") or "") for event in events[1:-1]] == [300, 2, 4, 4]


def test_a_limit_below_a_message() -> None:
    """It is uvicorn that says so."""
    events, answer = run([audio(640), audio(641), audio(2)], largest=640)
    assert [len(event["bytes"]) for event in events[1:-1]] == [640]
    assert (1009).to_bytes(2) in answer


def test_a_message_before_a_broken_frame_is_heard() -> None:
    """Though both came in one read."""
    events, answer = run([audio(640) + audio(2) + b"\x83\x80"])
    assert [len(event["bytes"]) for event in events[1:-1]] == [640, 2]
    assert (1002).to_bytes(2) in answer


def test_a_text_that_is_none_ends_the_connection() -> None:
    """By uvicorn's own word; what follows in the same read would make it raise."""
    events, answer = run([audio(2), frame(BIT_FIN | Opcode.TEXT, b"\xff")])
    assert (events[1]["bytes"], events[-1]["code"]) == (bytes((0, 7)), 1007)
    assert (1007).to_bytes(2) in answer


def test_a_message_after_the_servers_close_is_nobodys() -> None:
    """The application said goodbye, and the client had not heard it yet; that it then leaves is noticed at once."""
    events, _ = run([frame(BIT_FIN | Opcode.TEXT, GOODBYE.encode()), audio(640)])
    assert [event["type"] for event in events[1:]] == ["websocket.receive", "websocket.disconnect"]


def test_a_burst_waits_in_the_socket() -> None:
    """Until the application has taken what was read: its queue would otherwise have no bound."""

    class Transport(asyncio.Transport):
        paused = False

        def pause_reading(self) -> None:
            self.paused = True

        def resume_reading(self) -> None:
            self.paused = False

        def is_closing(self) -> bool:
            return False

    async def conversation() -> None:
        config = Config(lambda: None, log_config=None)
        config.load()
        below, transport = WebSocketsSansIOProtocol(config, ServerState(), {}), Transport()
        below.connection_made(transport)
        reader = Frames(below)
        for _ in range(2):
            reader.data_received(audio(640) + audio(640))
            assert transport.paused
            await below.receive()
            assert transport.paused
            await below.receive()
            assert not transport.paused

    asyncio.run(conversation())


def test_another_websocket_is_left_alone() -> None:
    """Whatever uvicorn was told to use for sockets; or there is no transport to be had."""

    async def conversation() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, ours)
            frames.take_over(transport)
            assert transport.get_protocol() is protocol
            transport.close()
        frames.take_over(None)

    asyncio.run(conversation())


def test_a_message_that_was_cut_off_goes_with_its_connection() -> None:
    """The library's parser waits for the rest of it, in a circle that Python looks for seldom."""
    left: list[weakref.ref[object]] = []
    cut_off = frame(BIT_FIN | Opcode.BINARY, bytes(90_000))[:80_000]
    with nobody_looks():
        uvloop.run(told([cut_off], shared=True, watch=lambda uvicorns: left.append(weakref.ref(uvicorns.conn))))
        assert left[0]() is None
