"""The application gets the same events from `SpeechWebSocketProtocol` as from uvicorn's protocol alone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, MutableMapping, Sequence
from contextlib import suppress
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Opcode
from websockets.protocol import State

from bench.common.websocket_client import client_frame
from tests.audio import reference
from tests.client import client_that_never_reads, session
from tests.patience import PATIENCE_SECONDS
from tests.server import Server, eventually
from tests.transport.accepted_connection import accepted_connection
from transport.app_context import MAX_LONG_MESSAGES_BYTES
from transport.byte_budget import ByteBudget
from transport.websocket_events import COUNT, EXTENSION, FLOOD_EVENT, KEEPALIVE_EVENT, PONG_EVENT
from transport.websocket_protocol import (
    FRAGMENT_BYTES,
    MAX_CONTROL_FRAMES,
    MAX_FRAME_BYTES,
    MAX_JOINED_BYTES,
    MAX_PAUSED_BYTES,
    SpeechWebSocketProtocol,
)

LARGEST = 100_000
"""Bytes of a message that uvicorn lets in here."""
GOODBYE = "goodbye"
"""A text upon which the application closes."""
BIT_FIN, BIT_COMPRESSED = 0x80, 0x40
BROKEN = {1002, 1007, 1009}
Event = MutableMapping[str, Any]
T = TypeVar("T")


def close_frame(code: int = CloseCode.NORMAL_CLOSURE) -> bytes:
    return client_frame(Opcode.CLOSE, code.to_bytes(2))


def frame(kind: int, payload: bytes, mask: bytes = b"\1\2\3\4") -> bytes:
    """With this first byte, and masked."""
    whole = client_frame(Opcode.BINARY, payload)
    header = len(whole) - len(payload) - 4
    masked = bytes(byte ^ mask[number % 4] for number, byte in enumerate(payload))
    return bytes((kind,)) + whole[1:header] + mask + masked


def audio(size: int) -> bytes:
    return frame(BIT_FIN | Opcode.BINARY, bytes(number * 7 % 256 for number in range(size)))


def application(events: list[Event], prepare: Callable[[SpeechWebSocketProtocol], None]) -> ASGIApp:
    """Appends what it receives to `events`. `prepare` is called with our protocol."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if EXTENSION in scope["extensions"]:
            prepare(scope["extensions"][EXTENSION])
        events.append(await receive())
        await send({"type": "websocket.accept"})
        while events[-1]["type"] != "websocket.disconnect":
            events.append(await receive())
            if events[-1].get("text") == GOODBYE or events[-1]["type"] == FLOOD_EVENT:
                with suppress(RuntimeError):  # uvicorn was first
                    await send({"type": "websocket.close", "code": 1008})

    return app


async def events_of(
    pieces: Sequence[bytes],
    protocol_class: type[WebSocketsSansIOProtocol],
    *,
    largest: int = LARGEST,
    memory: ByteBudget | None = None,
    joins_binary: bool = False,
    read_later: Callable[[Callable[[], None]], None] = lambda resume: resume(),
) -> tuple[list[Event], bytes]:
    """What an application receives, and its client, of a real connection that brings these pieces one by one.

    With a `memory` the application allows messages of `largest` bytes.
    """
    events: list[Event] = []

    def prepare(protocol: SpeechWebSocketProtocol) -> None:
        protocol.read_together(read_later, joins_binary=joins_binary)
        if memory is not None:
            protocol.allow_messages(largest, memory)

    app = application(events, prepare)
    options = {"ws_ping_interval": None, "log_config": None, "ws_per_message_deflate": False}
    config = Config(app, ws_max_size=largest, **options)  # type: ignore[arg-type] # of several types
    loop = asyncio.get_running_loop()
    async with accepted_connection(config, protocol_class) as (protocol, client):
        protocol.close_timeout = 2 * PATIENCE_SECONDS  # a close that is not answered must not be waited for
        assert (await loop.sock_recv(client, 1000)).startswith(b"HTTP/1.1 101")
        for piece in pieces:
            if not protocol.transport.is_closing():
                protocol.data_received(piece)
            await asyncio.sleep(0)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while more := await loop.sock_recv(client, 1 << 20):
            answer += more
        await asyncio.gather(*protocol.tasks)
    ours = (KEEPALIVE_EVENT, PONG_EVENT)
    return [event for event in events if event.get("bytes") != b"" and event["type"] not in ours], answer


def in_time(coroutine: Coroutine[None, None, T]) -> T:
    """Run it on the server's kind of loop."""
    return uvloop.run(asyncio.wait_for(coroutine, PATIENCE_SECONDS))


async def both(pieces: Sequence[bytes], largest: int) -> tuple[list[Event], bytes]:
    alone = await events_of(pieces, WebSocketsSansIOProtocol, largest=largest)
    ours = await events_of(pieces, SpeechWebSocketProtocol, largest=largest)
    codes = {alone[0][-1]["code"], ours[0][-1]["code"]}
    # Of what it reads with a broken frame uvicorn heeds that frame alone: it may have heard less.
    less = alone[0][:-1]
    assert ours[0] == alone[0] or (codes <= BROKEN and ours[0][: len(less)] == less)
    return ours


def run(pieces: Sequence[bytes], largest: int = LARGEST) -> tuple[list[Event], bytes]:
    return in_time(both(pieces, largest))


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
    """Whatever a client sends, however it is cut into pieces: the same messages in the same order."""
    sent = b"".join(data.draw(st.lists(st.one_of(usual, usual, unusual), max_size=8)))
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=6))
    edges = sorted({0, *cuts, len(sent)})
    run([sent[first:last] for first, last in pairwise(edges)])


def text_or_size(event: Event) -> str | int | None:
    """What an event says: its text, the bytes of its audio, or its type."""
    data: bytes | None = event.get("bytes")
    return event.get("text", event["type"]) if data is None or data[:1] == b"{" else len(data)


def joined(events: Sequence[Event]) -> list[str | int | None]:
    """The same with the sizes of neighbouring audio added up."""
    groups = groupby(map(text_or_size, events), key=lambda said: isinstance(said, int))
    return [each for is_audio, said in groups for each in ([sum(said)] if is_audio else said)]  # type: ignore[arg-type] # numbers


@pytest.mark.parametrize(("size", "pauses"), [(MAX_PAUSED_BYTES // 2, 1), (MAX_PAUSED_BYTES, 0)])
def test_the_socket_is_read_at_once_where_its_buffer_fills_soon(size: int, pauses: int) -> None:
    """A client ahead of real time, or with floats of 48 kHz, fills the receive buffer while reading pauses."""
    paused = []

    def read_later(resume: Callable[[], None]) -> None:
        paused.append(resume)
        resume()

    sent = [audio(size)]
    events, _ = in_time(events_of(sent, SpeechWebSocketProtocol, joins_binary=True, read_later=read_later))
    assert [len(event["bytes"]) for event in events if "bytes" in event] == [size]
    assert len(paused) == pauses


@given(st.data())
def test_joined_messages_keep_their_bytes_and_their_place(data: st.DataObject) -> None:
    """Audio that is read together comes as one event, before and behind the same texts, and never more than 8 KiB."""
    command = st.just(frame(BIT_FIN | Opcode.BINARY, b'{"type": "commit"}'))
    kinds = st.one_of(usual, usual, unusual.filter(lambda sent: sent[:1] != close_frame()[:1]), command)
    sent = b"".join(data.draw(st.lists(kinds, max_size=8)))
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=3))
    pieces = [sent[first:last] for first, last in pairwise(sorted({0, *cuts, len(sent)}))]

    async def conversation() -> None:
        alone, answer = await events_of(pieces, SpeechWebSocketProtocol, memory=ByteBudget(1 << 30))
        memory = ByteBudget(1 << 30)
        together, same_answer = await events_of(pieces, SpeechWebSocketProtocol, memory=memory, joins_binary=True)
        assert joined(together) == joined(alone)
        assert answer == same_answer
        assert memory.bytes == 0
        assert all(each.get(COUNT, 1) == 1 or len(each["bytes"]) <= MAX_JOINED_BYTES for each in together)
        messages = [each for each in alone if each["type"] == "websocket.receive"]
        assert sum(each.get(COUNT, 1) for each in together if each["type"] == "websocket.receive") == len(messages)

    in_time(conversation())


def test_audio_before_a_fragment_that_is_too_long_is_delivered() -> None:
    """Also where all of it is read at once: what was said before the mistake is not lost."""
    read = audio(640) * 5 + frame(Opcode.BINARY, bytes(LARGEST + 1))
    events, _ = in_time(events_of([read], SpeechWebSocketProtocol, joins_binary=True))
    assert [event["type"] for event in events] == ["websocket.connect", "websocket.receive", "websocket.disconnect"]
    assert (len(events[1]["bytes"]), events[2]["code"]) == (5 * 640, 1009)


def test_audio_read_together_is_one_event() -> None:
    """A text and a binary message that begins like one stay alone."""
    texts = [frame(BIT_FIN | Opcode.BINARY, b'{"type": "commit"}'), frame(BIT_FIN | Opcode.TEXT, b"hi")]
    piece = b"".join([audio(2), audio(4), texts[0], audio(6), texts[1], audio(8), audio(10)])
    events, _ = in_time(events_of([piece], SpeechWebSocketProtocol, joins_binary=True))
    assert [text_or_size(event) for event in events[1:-1]] == [6, "websocket.receive", 6, "hi", 18]
    assert [event.get(COUNT) for event in events[1:-1]] == [2, None, 1, None, 2]


def test_the_rest_of_a_refused_frame_is_no_message() -> None:
    """A ping is too long: what comes in later reads is its payload, whatever it looks like."""
    ping = frame(BIT_FIN | Opcode.PING, bytes(1_000))
    events, _ = run([ping[:8], audio(100), audio(100), audio(640)])
    assert [event["type"] for event in events] == ["websocket.connect", "websocket.disconnect"]


def test_a_short_message_in_tiny_fragments_is_refused() -> None:
    """Also where the application allows no longer messages than others: each fragment counts 256 bytes."""
    pieces = [frame(Opcode.BINARY, b"x"), *[frame(0, b"x")] * 5_000]
    events, answer = in_time(events_of(pieces, SpeechWebSocketProtocol, largest=MAX_FRAME_BYTES))
    assert [event["type"] for event in events] == ["websocket.connect", "websocket.disconnect"]
    assert (1009).to_bytes(2) in answer


@given(st.lists(st.one_of(usual, unusual.filter(lambda sent: len(sent) < 1000)), max_size=6))
def test_events_are_the_same_byte_by_byte(sent: list[bytes]) -> None:
    """To the last message before a broken frame."""
    pieces = [bytes((byte,)) for byte in b"".join(sent)]

    async def conversation() -> None:
        ours = await events_of(pieces, SpeechWebSocketProtocol)
        assert ours == await events_of(pieces, WebSocketsSansIOProtocol), "pings too, each in a read of its own"

    in_time(conversation())


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


def test_a_message_before_a_broken_frame_is_transcribed() -> None:
    """Though both came in one read."""
    events, answer = run([audio(640) + audio(2) + b"\x83\x80"])
    assert [len(event["bytes"]) for event in events[1:-1]] == [640, 2]
    assert (1002).to_bytes(2) in answer


def test_a_text_that_is_none_ends_the_connection() -> None:
    """uvicorn closes it. What follows in the same read is dropped, because uvicorn would raise."""
    events, answer = run([audio(2), frame(BIT_FIN | Opcode.TEXT, b"\xff")])
    assert (events[1]["bytes"], events[-1]["code"]) == (bytes((0, 7)), 1007)
    assert (1007).to_bytes(2) in answer


def test_a_message_after_the_servers_close_is_dropped() -> None:
    """The client sent it before the close reached it. Its disconnect is then noticed at once."""
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
        protocol, transport = SpeechWebSocketProtocol(config, ServerState(), {}), Transport()
        protocol.connection_made(transport)
        protocol.conn.state = State.OPEN
        for _ in range(2):
            protocol.data_received(audio(640) + audio(640))
            assert transport.paused
            await protocol.receive()
            assert transport.paused
            await protocol.receive()
            assert not transport.paused

    asyncio.run(conversation())


PING, PONG = (frame(BIT_FIN | opcode, b"beat") for opcode in (Opcode.PING, Opcode.PONG))


def test_the_last_ping_of_a_read_is_answered() -> None:
    """One answer for all, also where they stand between audio."""
    pings = [frame(BIT_FIN | Opcode.PING, bytes((number,))) for number in range(9)]
    events, answer = run([audio(2) + b"".join(pings) + audio(4)])
    assert [len(event["bytes"]) for event in events[1:-1]] == [2, 4]
    assert answer.startswith(b"\x8a\x01\x08")
    assert answer.count(b"\x8a\x01") == 1


@pytest.mark.parametrize("flood", [PING, PONG, frame(BIT_FIN | Opcode.BINARY, b""), frame(0, b"")])
def test_too_many_control_frames_end_the_connection(flood: bytes) -> None:
    """With 1008, whether they are pings, pongs, empty messages or empty parts of one, and however they are cut.

    The application learns of it once and closes; what comes behind them is dropped.
    """
    pieces = [frame(Opcode.BINARY, b"part")] if flood[0] == 0 else []
    pieces += [flood * 7] * (MAX_CONTROL_FRAMES // 7 + 1) + [audio(2), flood]
    events, answer = in_time(events_of(pieces, SpeechWebSocketProtocol))
    assert events[-1]["code"] == 1008
    assert (1008).to_bytes(2) in answer
    assert [each["type"] for each in events].count(FLOOD_EVENT) == 1
    assert [each["type"] for each in events[-2:]] == [FLOOD_EVENT, "websocket.disconnect"]


def test_audio_is_never_too_much() -> None:
    """However many messages come in a second."""
    events, _ = run([audio(2) * 100] * (MAX_CONTROL_FRAMES // 10))
    assert len(events) == MAX_CONTROL_FRAMES * 10 + 2
    assert events[-1]["code"] != 1008


def test_an_unfinished_message_is_bounded_under_plain_uvicorn() -> None:
    """Its limit is 1 MiB though uvicorn's is 16, also for the fragments of a message together."""
    part = bytes(MAX_FRAME_BYTES // 2 + 1)
    pieces = [frame(Opcode.BINARY, part), frame(0, part)]
    events, answer = in_time(events_of(pieces, SpeechWebSocketProtocol, largest=16 * MAX_FRAME_BYTES))
    assert [event["type"] for event in events] == ["websocket.connect", "websocket.disconnect"]
    assert (1009).to_bytes(2) in answer


def test_a_plain_protocol_serves_and_says_what_is_lost(folder: Path) -> None:
    """One log line, however many connections; a client that does not read keeps its place until it leaves."""
    with Server.with_fault(folder, "wordy", {"STT_SEND_TIMEOUT_SECONDS": "0.5"}, ws="websockets-sansio") as server:
        for _ in range(2):
            with session(server.ws()):
                pass
        with client_that_never_reads(server.ws()) as send:
            for _ in range(3):
                send(reference("hello") + bytes(32_000))
            eventually(lambda: server.threads() > 0 and server.metric("stt_sessions") == 1)
        eventually(lambda: server.metric("stt_sessions") == 0)
        assert [line["event"] for line in server.log()].count("plain_websocket_protocol") == 1


@pytest.mark.parametrize(("largest", "code"), [(40 * FRAGMENT_BYTES, 1005), (40 * FRAGMENT_BYTES - 1, 1009)])
@pytest.mark.parametrize("size", [1, FRAGMENT_BYTES // 2])
def test_a_long_message_in_tiny_fragments_is_refused(size: int, largest: int, code: int) -> None:
    """A fragment counts at least 256 bytes, because it takes more than its own."""
    part = b"x" * size
    pieces = [frame(Opcode.TEXT, part), *[frame(0, part)] * 39, frame(BIT_FIN, part)]
    memory = ByteBudget(MAX_LONG_MESSAGES_BYTES)
    events, _ = in_time(events_of(pieces, SpeechWebSocketProtocol, largest=largest, memory=memory))
    assert events[-1]["code"] == code
    assert memory.bytes == 0


def test_what_long_messages_take_together_has_a_bound() -> None:
    """A message that is not complete counts as far as it came; beyond the bound its connection gets 1013."""
    memory = ByteBudget(10_000)
    memory.change(9_000)  # of other connections
    whole = frame(BIT_FIN | Opcode.TEXT, b"x" * 2_000)
    events, answer = in_time(events_of([whole[:1_500], whole[1_500:]], SpeechWebSocketProtocol, memory=memory))
    assert events[-1]["code"] == 1013
    assert (1013).to_bytes(2) in answer
    assert memory.bytes == 9_000


def test_what_a_lost_connection_left_unread_counts_no_more() -> None:
    """Messages that the application takes after the connection was lost are not subtracted twice."""

    class LateReader(SpeechWebSocketProtocol):
        lost = False

        async def receive(self) -> Any:  # noqa: ANN401 - uvicorn's type is private
            while not (self.lost or self.queue.empty()) and self.handshake_complete:  # noqa: ASYNC110 - two facts
                await asyncio.sleep(0.01)
            return await super().receive()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self.lost = True

    memory = ByteBudget(10_000)
    texts = [frame(BIT_FIN | Opcode.TEXT, b"x" * 100)] * 3
    events, _ = in_time(events_of([b"".join(texts) + close_frame()], LateReader, memory=memory))
    assert len(events) == 5
    assert memory.bytes == 0


def test_what_was_read_counts_no_more() -> None:
    """Message after message, each is forgotten when the application asks for the next."""
    memory = ByteBudget(10_000)
    pieces = [frame(BIT_FIN | Opcode.TEXT, b"x" * 6_000), frame(BIT_FIN | Opcode.BINARY, b"x" * 6_000)] * 5
    events, _ = in_time(events_of(pieces, SpeechWebSocketProtocol, memory=memory))
    assert [len(event.get("text") or event["bytes"]) for event in events[1:-1]] == [6_000] * 10
    assert memory.bytes == 0
