"""A flood of control frames on a live server: its client is closed, and nobody else notices."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from websockets.frames import Frame, Opcode

from tests.audio import reference, silence, text_of
from tests.client import Client, session
from tests.server import Server
from transport.websocket_protocol import MAX_CONTROL_FRAMES

FLOOD_BYTES = 6_000_000
PINGS = Frame(Opcode.PING, bytes(100)).serialize(mask=True) * 1_000


def _flood(client: Client) -> None:
    """Until the server has had enough."""
    with suppress(OSError):
        for _ in range(FLOOD_BYTES // len(PINGS)):
            client.socket.socket.sendall(PINGS)


def test_a_flood_of_pings_is_closed_and_live_sessions_go_on(folder: Path) -> None:
    """6 MB of them beside a speaker in mid-utterance: that one keeps its words, the other gets its final and 1008."""
    with Server(folder, {"STT_BACKEND": "mock"}) as server, session(server.ws()) as speaker:
        with session(server.ws()) as flooder:
            flooder.command("configure", endpointing=False)
            flooder.speak(reference("hello")[:32_000])
            speaker.speak(reference("hello")[:32_000])
            flood = threading.Thread(target=_flood, args=(flooder,))
            flood.start()
            speaker.speak(reference("hello")[32_000:] + silence(700))
            (final,) = speaker.finals(1)
            flood.join()
            messages, code = flooder.rest()
        closed = server.metric('stt_closes_total{by="server",code="1008"}')

    last, error = (each for each in messages if each["type"] in ("final", "error"))
    assert (last["reason"], error["code"], code) == ("closing", 1008, 1008)
    assert error["message"].startswith("flood: ")
    assert (final["text"], final["reason"]) == (text_of("hello"), "endpoint")
    assert closed == 1


def test_audio_in_tiny_messages_is_no_flood(mock_server: Server) -> None:
    """Ten times as many messages as control frames are allowed in a second, all at once."""
    pcm = reference("hello")
    size = 2 * (len(pcm) // (2 * 10 * MAX_CONTROL_FRAMES))
    with session(mock_server.ws()) as client:
        client.send(pcm, size)
        client.commit()
        final = client.until("final", reason="commit")[-1]
    assert final["text"] == text_of("hello")
