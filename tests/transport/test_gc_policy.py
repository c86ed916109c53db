"""Full garbage collections come when connections have closed, and not because live streams have objects."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.datastructures import UploadFile
from websockets.exceptions import ConnectionClosed

from app import create_app
from backends import registry
from config import Settings
from inference.session_worker import SessionWorker
from inference.utterance_pipeline import UtterancePipeline
from tests.audio import REFERENCES, reference, silence
from tests.client import conversation, session
from tests.faulty import DyingBackend, FailingBackend, FaultyBackend, StuckBackend
from tests.http_client import HTTP
from tests.patience import PATIENCE_SECONDS
from tests.server import Server, eventually
from transport.connection import Connection
from transport.gc_policy import MIN_CLOSED, GcPolicy
from transport.inbound_queue import InboundQueue
from transport.receiver import Receiver
from transport.websocket_protocol import SpeechWebSocketProtocol


class Cycle:
    """Garbage that reference counts do not free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def policy() -> Iterator[GcPolicy]:
    """In force."""
    policy = GcPolicy()
    policy.freeze_startup()
    yield policy
    policy.restore()


def closes_until_freed(policy: GcPolicy, open_sessions: int) -> int:
    """Connections that must close before a cycle is freed."""
    gc.collect()
    gc.disable()
    try:
        left = weakref.ref(Cycle())
        for closed in range(1, 10 * MIN_CLOSED):
            policy.connection_closed(open_sessions)
            if left() is None:
                return closed
    finally:
        gc.enable()
    raise AssertionError("it is never freed")


def test_when_as_many_have_closed_as_are_open(policy: GcPolicy) -> None:
    """So that what a collection costs, which grows with the open ones, is shared by as many."""
    assert closes_until_freed(policy, 3 * MIN_CLOSED) == 3 * MIN_CLOSED
    assert closes_until_freed(policy, 3 * MIN_CLOSED) == 3 * MIN_CLOSED, "it counts anew"
    assert closes_until_freed(policy, 0) == MIN_CLOSED, "but for a few it is not worth it"


def collections_while_messages_pass() -> int:
    """Full collections that Python starts while objects live just long enough to survive its smaller ones."""
    before: int = gc.get_stats()[2]["collections"]
    lasting = [[0] for _ in range(10_000)]
    for _ in range(60):
        lasting = [[0] for _ in range(10_000)]
    assert lasting
    after: int = gc.get_stats()[2]["collections"]
    return after - before


def test_live_streams_are_no_reason(policy: GcPolicy) -> None:
    """Python alone collects again and again, only because messages are on their way."""
    assert collections_while_messages_pass() == 0
    policy.restore()
    assert collections_while_messages_pass() > 0


def test_the_process_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's lifespan begins and ends it."""
    monkeypatch.setattr("observability.logging.configure", lambda _: None)  # it is the process's, not this test's
    before = gc.get_threshold(), gc.get_freeze_count()

    async def serve() -> tuple[tuple[int, int, int], int]:
        ready = threading.Event()
        app = create_app(Settings(backend="mock", references=Path("references")), ready.set)
        async with app.router.lifespan_context(app):
            await asyncio.to_thread(eventually, ready.is_set)
            return gc.get_threshold(), gc.get_freeze_count()

    thresholds, frozen = asyncio.run(serve())
    assert thresholds[:2] == before[0][:2]
    assert thresholds[2] > before[0][2]
    assert frozen > before[1]
    assert gc.get_threshold() == before[0]
    assert gc.get_freeze_count() <= before[1], "nothing of a server that has ended is kept"


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve the application in this process; yields the address of its sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, ws=SpeechWebSocketProtocol, log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}/v1/stt/ws?call_id=test&sample_rate=16000"
        finally:
            server.should_exit = True
            thread.join()


def left_over() -> list[object]:
    """Our objects of connections and uploads that reference counts have not freed."""
    kinds = Connection, Receiver, InboundQueue, SpeechWebSocketProtocol, SessionWorker, UtterancePipeline, UploadFile
    return [each for each in gc.get_objects() if type(each) in kinds]


@contextmanager
def serving_without_collections(backend: FaultyBackend | None = None, in_queue_size: int = 20_000) -> Iterator[str]:
    """Like `running`, for the mock engine or `backend`; at the end nothing of the connections may be left."""
    ready = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("observability.logging.configure", lambda _: None)  # it is the process's, not this test's
        if backend is not None:
            patch.setattr(registry, "BACKENDS", {"mock": registry.BackendSpec(lambda _: backend)})
        app = create_app(
            Settings(backend="mock", references=Path("references"), in_queue_size=in_queue_size), ready.set
        )
        with running(app) as url:
            eventually(ready.is_set)
            gc.collect()
            gc.disable()
            try:
                yield url
                eventually(lambda: not left_over())
            finally:
                gc.enable()


def upload_hello(url: str, path: str) -> httpx.Response:
    """Upload a recording to the server whose sockets have the address `url`."""
    address = url.replace("ws:", "http:").split("/v1/")[0]
    return HTTP.post(address + path, files={"file": ("a.wav", (REFERENCES / "hello.wav").read_bytes())})


# A cycle through a closed connection would keep all of it, and collections would take five times as long.


def test_a_closed_connection_is_freed_without_a_collection() -> None:
    """Whether its client says goodbye or vanishes, at some time between two blocks of its audio."""
    with serving_without_collections() as url:
        with session(url):
            pass
        with session(url) as client:
            client.send(reference("hello") + silence(700))
            assert client.finals(1)[0]["text"]
            assert left_over()
        for _ in range(20):
            with conversation(url) as client:
                client.send(reference("hello"))
                client.vanish()


def test_a_session_whose_engine_fails_is_freed_without_a_collection() -> None:
    """Its exception has passed through the worker."""
    with serving_without_collections(FailingBackend()) as url, session(url) as client:
        client.send(reference("hello") + silence(700))
        assert client.rest()[1] == 1011


@pytest.mark.parametrize("sample_rate", [16_000, 48_000])
def test_a_session_that_overflows_is_freed_without_a_collection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sample_rate: int
) -> None:
    """At 48 kHz audio waits to be resampled; what is left of it does not fit any more."""
    monkeypatch.setenv("FAULT_FILE", str(tmp_path / "released"))
    monkeypatch.setattr("transport.connection._CLOSING_SECONDS", 0.1)
    with (
        serving_without_collections(StuckBackend(), in_queue_size=500) as url,
        session(url.replace("=16000", f"={sample_rate}")) as client,
    ):
        for _ in range(3):
            client.send(reference("hello"))
            client.commit()
        client.send(reference("hello")[:64])
        with suppress(ConnectionClosed):
            for _ in range(1_000):
                client.command("configure", endpointing=True)
        assert client.rest()[1] == 1008


def test_a_session_whose_engine_dies_is_freed_without_a_collection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What looks after the sessions forgets them."""
    died = tmp_path / "died"
    monkeypatch.setenv("FAULT_FILE", str(died))
    with serving_without_collections(DyingBackend()) as url, session(url) as client:
        client.send(reference("hello"))
        died.touch()
        assert client.rest()[1] == 1011


def test_an_upload_that_fails_after_its_first_event_is_freed_without_a_collection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error is an event."""
    monkeypatch.setattr("transport.upload_transcriber._FIRST_EVENT_SECONDS", 0)
    with serving_without_collections(FailingBackend()) as url:
        answer = upload_hello(url, "/v1/stt/transcribe?stream=true")
        assert (answer.status_code, '"code":500' in answer.text) == (200, True)


@pytest.mark.parametrize("path", ["/v1/stt/transcribe", "/v1/stt/transcribe?stream=true", "/v1/audio/transcriptions"])
@pytest.mark.parametrize(("backend", "status"), [(None, 200), (FailingBackend(), 500)], ids=["done", "failed"])
def test_an_upload_is_freed_without_a_collection(path: str, backend: FaultyBackend | None, status: int) -> None:
    """Its exception has passed through a thread and a task."""
    with serving_without_collections(backend) as url:
        assert upload_hello(url, path).status_code == status


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/nope", "/health"])
def test_http_requests_count(folder: Path, path: str) -> None:
    """Requests with bodies that nobody reads leave cycles as sockets do: memory stays flat over thousands of them."""
    body = bytes(50_000)

    def post(client: httpx.Client, times: int) -> None:
        for _ in range(times):
            client.post(path, content=body)

    with (
        Server(folder, {"STT_BACKEND": "mock"}) as server,
        httpx.Client(base_url=server.http, timeout=PATIENCE_SECONDS) as client,
    ):
        post(client, 600)
        before = server.resident_bytes()
        post(client, 2_000)
        assert server.resident_bytes() - before < 2_000 * len(body) / 2


@pytest.mark.slow
def test_refused_sockets_count(folder: Path) -> None:
    """Connections that break the protocol leave cycles too: memory stays flat over hundreds of them."""
    with Server(folder, {"STT_BACKEND": "mock"}) as server:

        def break_the_protocol(times: int) -> None:
            for _ in range(times):
                with conversation(server.ws()) as client:
                    client.socket.send(bytes(500_000))
                    client.rest()

        break_the_protocol(300)
        before = server.resident_bytes()
        break_the_protocol(600)
        assert server.resident_bytes() - before < 150_000_000
