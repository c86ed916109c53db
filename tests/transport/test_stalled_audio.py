"""Clients whose audio stops in the middle of an utterance, on a real server."""

from __future__ import annotations

import time
from pathlib import Path

from tests.audio import reference, silence, text_of
from tests.client import session
from tests.server import Server
from tests.transport.late_network import LateNetwork


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
    """Audio and pongs that are delayed by 2 s and then come in a burst give the finals of an even stream."""
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
    ping = ("--ws-ping-interval", "0.5", "--ws-ping-timeout", "8")
    with Server(folder, {"STT_BACKEND": "mock"}, arguments=ping) as server, session(server.ws()) as client:
        client.send(reference("hello"))
        client.finals(1)
        time.sleep(10)  # longer than a client may take
        client.commit()
        assert client.finals(1)[0]["reason"] == "commit"
