"""What the metrics count, on real servers."""

from __future__ import annotations

import sys
from pathlib import Path

from observability.version import VERSION
from tests.audio import reference, silence
from tests.client import conversation, session
from tests.http_client import HTTP
from tests.server import Server, eventually

MOCK = {"STT_BACKEND": "mock"}


def test_metrics_begin_at_zero(mock_server: Server) -> None:
    """Series exist before their first event; build, process and Python are told."""
    page = HTTP.get(f"{mock_server.http}/metrics").text

    for series in (
        'stt_closes_total{by="server",code="1011"} 0.0',
        'stt_refusals_total{protocol="http",reason="storage"} 0.0',
        'stt_segments_total{reason="drain"}',
        'stt_http_requests_total{status="507"} 0.0',
        'stt_final_latency_seconds_bucket{le="60.0"}',
        "stt_engine_restarts_total 0.0",
        "stt_in_queue_age_seconds",
        f'stt_build_info{{backend="mock",version="{VERSION}"}} 1.0',
        "python_info{",
        "python_gc_collections_total{",
    ):
        assert series in page
    if sys.platform == "linux":
        assert mock_server.metric("process_resident_memory_bytes") > 1e6


def test_a_commit_with_nothing_said_is_no_latency(folder: Path) -> None:
    """The histogram counts those who waited for words only."""
    with Server(folder, MOCK) as server, session(server.ws()) as client:
        for _ in range(3):
            client.commit()
        client.finals(3)
        client.send(reference("hello"), 3200)
        client.commit()
        client.until("final", reason="commit")
        counted = server.metric("stt_final_latency_seconds_count")
        finals = sum(server.metric(f'stt_segments_total{{reason="{each}"}}') for each in ("commit", "endpoint"))

    assert finals - counted == 3


def test_who_closed_is_counted(folder: Path) -> None:
    """The client's close and the server's are told apart."""
    with Server(folder, MOCK) as server:
        with session(server.ws()):
            pass
        with conversation(server.ws(language="!")) as client:
            client.rest()
        eventually(lambda: server.metric('stt_closes_total{by="client",code="1000"}') == 1)
        eventually(lambda: server.metric('stt_closes_total{by="server",code="1008"}') == 1)


def test_metrics_tell_and_do_not_name(mock_server: Server) -> None:
    """Audio, latency and finals are counted, and no label holds a call_id."""
    seconds_before = mock_server.metric('stt_audio_seconds_total{source="websocket"}')
    ended = mock_server.metric('stt_segments_total{reason="endpoint"}')
    with session(mock_server.ws(call_id="very-particular-name")) as client:
        client.send(reference("hello") + silence(700), 3200)
        client.finals(1)

    assert mock_server.metric('stt_audio_seconds_total{source="websocket"}') > seconds_before + 2
    assert mock_server.metric('stt_segments_total{reason="endpoint"}') == ended + 1
    assert "very-particular-name" not in HTTP.get(f"{mock_server.http}/metrics").text
