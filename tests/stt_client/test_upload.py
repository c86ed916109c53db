"""Files over HTTP: progress, and what happens when the server or the connection goes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from stt_client import Client, Progress, RequestRefused, ServerUnreachable, SttError, Transcript
from tests.audio import reference, text_of
from tests.patience import PATIENCE_SECONDS
from tests.protocol.audio_files import wav
from tests.server import Server

HELLO = "references/hello.wav"


def answer(status: str, body: str, *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", body)
    return "\r\n".join(lines).encode()


def event(**fields: object) -> str:
    return f"data: {json.dumps(fields)}\n\n"


EVENTS = "Content-Type: text/event-stream"
DONE = answer("200 OK", ":\n\n" + event(type="transcript", text="done", duration_ms=1), EVENTS)


@contextmanager
def scripted_http(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Each connection gets its answer, empty for none, behind its upload; the address, and the requests."""
    requests: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        for each in answers:
            connection, _ = listener.accept()
            with connection:
                data = b""
                while not data.endswith(b"--\r\n"):
                    data += connection.recv(65_536)
                requests.append(data)
                connection.sendall(each)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def transcribe(answers: Sequence[bytes]) -> tuple[Transcript | SttError, int]:
    """The outcome of one transcription, and how many requests it took."""
    with scripted_http(*answers) as (address, requests):
        try:
            return Client(address).transcribe(HELLO), len(requests)
        except SttError as error:
            return error, len(requests)


def test_progress_tells_what_is_sent_and_then_what_is_decoded(mock_server: Server, tmp_path: Path) -> None:
    """Bytes grow to the file's size, and after them the position in the audio, of which the server tells every 10 s."""
    path = tmp_path / "long.wav"
    path.write_bytes(wav(np.frombuffer(reference("wind") * 8, np.int16)))
    steps: list[Progress] = []
    Client(mock_server.http).transcribe(path, progress=steps.append)

    assert steps == sorted(steps, key=lambda step: (step.sent_bytes, step.position_ms))
    assert {step.total_bytes for step in steps} == {path.stat().st_size}
    assert steps[-1].sent_bytes == path.stat().st_size
    assert steps[-1].position_ms >= 10_000


@pytest.mark.parametrize(
    "first",
    [
        answer("503 Service Unavailable", '{"message": "full"}', "Retry-After: 0"),
        answer("200 OK", event(type="error", code=503, message="the server restarts"), EVENTS),
        answer("200 OK", event(type="progress", position_ms=10_000), EVENTS),
        b"",
    ],
    ids=["full", "restarts", "cut in the answer", "cut before the answer"],
)
def test_a_file_is_sent_again_where_that_may_help(first: bytes) -> None:
    """A full server, a restart while it works, and a connection that breaks cost nothing but time."""
    outcome, requests = transcribe([first, DONE])

    assert isinstance(outcome, Transcript)
    assert (outcome.text, requests) == ("done", 2)


@pytest.mark.parametrize(
    ("only", "sentence"),
    [
        (answer("401 Unauthorized", '{"message": "no key"}'), "no key"),
        (answer("200 OK", event(type="error", code=422, message="no audio"), EVENTS), "422: no audio"),
        (answer("308 Permanent Redirect", "", "Location: https://elsewhere/"), "it is at https://elsewhere/"),
        (answer("200 OK", "<html>", "Content-Type: text/html"), "no server of this kind"),
        (answer("200 OK", "data: nonsense\n\n", EVENTS), "not of this protocol"),
    ],
)
def test_a_file_is_not_sent_again_where_that_would_not_help(only: bytes, sentence: str) -> None:
    """The caller learns at once what the server said."""
    outcome, requests = transcribe([only])

    assert isinstance(outcome, SttError)
    assert sentence in str(outcome)
    assert requests == 1


def test_a_connection_that_breaks_is_reported_as_such() -> None:
    """The error says how much was sent: the server is there, but something in between cuts."""
    with (
        scripted_http(b"") as (address, _),
        pytest.raises(ServerUnreachable, match=r"broke after \d+ of \d+ bytes"),
    ):
        Client(address, connect_seconds=0).transcribe(HELLO)


def test_what_is_too_large_is_reported_while_it_is_sent(folder: Path, tmp_path: Path) -> None:
    """The server's refusal arrives although it does not read the file to its end."""
    path = tmp_path / "large.wav"
    path.write_bytes(wav(np.zeros(4_000_000, np.int16)))
    with (
        Server(folder, {"STT_BACKEND": "mock", "STT_MAX_UPLOAD_BYTES": "100000"}) as server,
        pytest.raises(RequestRefused) as refusal,
    ):
        Client(server.http).transcribe(path)

    assert refusal.value.status == 413


def test_a_file_without_a_length_is_refused(mock_server: Server, tmp_path: Path) -> None:
    """A pipe that stands where a file should is told before anything is sent."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    try:
        with pytest.raises(OSError, match="not a regular file"):
            Client(mock_server.http).transcribe(pipe)
    finally:
        os.close(writer)


def test_a_notebook_can_transcribe(mock_server: Server) -> None:
    """Where the caller's thread runs an event loop already, the client without asyncio works too."""

    async def cell() -> str:
        return Client(mock_server.http).transcribe(HELLO).text

    assert asyncio.run(cell()) == text_of("hello")
    assert not [thread for thread in threading.enumerate() if thread.name == "stt file"]
