"""A stream's connections: what it sends, when it comes back, and when it gives up."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import soxr

from stt_client import (
    AsyncClient,
    Client,
    Event,
    Final,
    Level,
    Partial,
    RequestRefused,
    ServerUnreachable,
    StreamClosed,
    SttError,
)
from tests.audio import reference, silence, text_of
from tests.certificate import certificate
from tests.patience import PATIENCE_SECONDS
from tests.server import Server, eventually, free_port
from tests.stt_client.scripted_server import Scripted, Step, scripted


def outcome(*steps: Step) -> tuple[Scripted, Exception | None]:
    """Open a stream on a scripted server and close it; the error, if there was one."""

    async def main() -> tuple[Scripted, Exception | None]:
        async with scripted(*steps) as server:
            try:
                async with AsyncClient(server.url, api_key="secret").stream() as stream:
                    await stream.close()
            except SttError as error:
                return server, error
            return server, None

    return asyncio.run(main())


def test_the_key_is_sent_as_a_bearer_token() -> None:
    """The key goes into the header that servers read, and into no other place."""
    server, error = outcome(Step())

    assert error is None
    assert server.requests[0].headers["Authorization"] == "Bearer secret"
    assert "secret" not in server.requests[0].path


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refused_request_is_not_repeated(status: int) -> None:
    """The caller learns at once what the server said."""
    server, error = outcome(Step(status=status))

    assert isinstance(error, RequestRefused)
    assert (error.status, error.message) == (status, "a fact")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_busy_server_is_asked_again_when_it_says_so(status: int) -> None:
    """Retry-After is waited for."""
    server, error = outcome(Step(status=status, headers={"Retry-After": "1"}), Step())

    assert error is None
    assert server.times[1] - server.times[0] >= 1


def test_a_stream_that_fails_servers_is_tried_three_times() -> None:
    """The fourth 1011 within a minute is the end."""
    server, error = outcome(Step(code=1011))

    assert isinstance(error, StreamClosed)
    assert error.code == 1011
    assert len(server.requests) == 4


def test_the_close_frame_counts_even_if_tcp_stays_open() -> None:
    """Behind a proxy that keeps the TCP connection open the stream moves on all the same."""
    server, error = outcome(Step(code=1012, keeps_tcp_open=True), Step())

    assert error is None
    assert len(server.requests) == 2


def test_newer_messages_are_ignored_and_nonsense_ends_the_stream() -> None:
    """An unknown type is no error; what is not of the protocol is one, in a sentence."""
    assert outcome(Step(messages=('{"type": "ready"}', '{"type": "news"}')))[1] is None

    error = outcome(Step(messages=('{"type": "ready"}', "hello")))[1]
    assert type(error) is SttError


@pytest.mark.slow
def test_a_provisional_final_comes_before_the_error(folder: Path) -> None:
    """If the only server ends in the middle of a sentence, its words so far are handed out, and then the error."""
    with (
        Server(folder, {"STT_BACKEND": "mock"}) as server,
        Client(server.http, reconnect_seconds=1).stream() as stream,
    ):
        stream.send(reference("hello")[:48_000])
        assert isinstance(next(stream), Partial)
        server.signal(signal.SIGTERM)
        server.ended()
        events: list[Event] = []
        with pytest.raises(SttError):
            events.extend(iter(stream))

    finals = [event for event in events if isinstance(event, Final)]
    assert [final.reason for final in finals] == ["drain"]
    assert text_of("hello").startswith(finals[0].text)


def test_no_server_is_an_error_of_its_own() -> None:
    """Where nothing listens the stream fails when its time is over."""
    with pytest.raises(ServerUnreachable), Client(f"http://127.0.0.1:{free_port()}", connect_seconds=0.2).stream():
        pass


@pytest.mark.parametrize("kind", ["int16", "float32", "float64"])
def test_arrays_say_the_same_as_bytes(mock_server: Server, kind: str) -> None:
    """Samples may come as any of numpy's types."""
    samples = np.frombuffer(reference("hello") + silence(800), np.int16)
    audio = samples if kind == "int16" else (samples / 32768).astype(kind)
    with Client(mock_server.http).stream() as stream:
        stream.send(audio)
        (final,) = stream.close()

    assert final.text == text_of("hello")


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_audio_of_any_rate_keeps_its_times(mock_server: Server, rate: int) -> None:
    """An async iterator gives arrays of the device's own rate; the final's times are those of 16 kHz."""
    samples = soxr.resample(np.frombuffer(reference("hello") + silence(800), np.int16), 16_000, rate)

    async def pieces() -> AsyncIterator[np.ndarray[tuple[int], np.dtype[np.int16]]]:
        for piece in np.array_split(samples, 30):
            yield piece

    async def spoken() -> list[Final]:
        async with AsyncClient(mock_server.http).stream(sample_rate=rate) as stream:
            return [event async for event in stream.transcribe(pieces()) if isinstance(event, Final)]

    (final,) = asyncio.run(spoken())
    assert final.text == text_of("hello")
    assert [final.start_ms, final.end_ms] == pytest.approx([100, 2180], abs=20)


@pytest.mark.parametrize("audio", [np.zeros(10, np.int32), np.zeros(10, np.complex64)])
def test_arrays_of_other_types_are_refused(
    mock_server: Server, audio: np.ndarray[tuple[int], np.dtype[np.generic]]
) -> None:
    """Samples of unknown scale would be noise."""
    with Client(mock_server.http).stream() as stream, pytest.raises(TypeError, match="int16"):
        stream.send(audio)


def test_two_channels_are_refused(mock_server: Server) -> None:
    """A stereo array would play at half speed."""
    with Client(mock_server.http).stream() as stream, pytest.raises(ValueError, match="mono"):
        stream.send(np.zeros((100, 2), np.int16))


def test_a_stream_that_is_left_ends_its_threads(mock_server: Server) -> None:
    """Leaving in the middle ends the loop's thread and the one that sends the source."""
    source = (silence(100) for _ in range(1_000_000))
    with Client(mock_server.http).stream(events=["speech"]) as stream:
        events = stream.transcribe(iter([reference("hello"), *(next(source) for _ in range(50))]))
        next(events)
        mine = [thread for thread in threading.enumerate() if thread.name.startswith("stt ")]
        assert mine
    for thread in mine:
        thread.join(PATIENCE_SECONDS)

    assert not [thread for thread in mine if thread.is_alive()]


def test_leaving_the_loop_does_not_finish_the_stream(mock_server: Server) -> None:
    """`break` leaves the stream as it is: nothing waits for the last words."""
    with Client(mock_server.http).stream() as stream:
        for event in stream.transcribe(iter([reference("hello")] + [silence(100)] * 30)):
            assert isinstance(event, Partial | Final)
            break
        assert stream.ready.backend == "mock"


def test_a_source_that_fails_ends_the_stream_with_its_error(mock_server: Server) -> None:
    """What the microphone raises reaches the one who reads."""

    def source() -> object:
        yield silence(100)
        raise OSError("the microphone is gone")

    with Client(mock_server.http).stream() as stream, pytest.raises(OSError, match="microphone"):
        list(stream.transcribe(source()))  # type: ignore[arg-type]


def test_commits_are_answered_and_a_finished_stream_takes_no_more(mock_server: Server) -> None:
    """A commit's final has its id; after `finish` sending is an error."""
    with Client(mock_server.http).stream() as stream:
        stream.send(reference("hello"))
        stream.commit("turn-1")
        stream.keepalive()
        finals = stream.close()
        with pytest.raises(SttError, match="finished"):
            stream.send(silence(100))

    assert [(final.text, final.reason, final.id) for final in finals] == [(text_of("hello"), "commit", "turn-1")]


def test_a_silent_stream_says_that_it_is_there() -> None:
    """Again and again while it sends nothing, so that it outlives the server's idle limit."""

    async def converse() -> list[str]:
        async with scripted(Step()) as server:
            async with AsyncClient(server.url).stream(keepalive_seconds=0.05) as stream:
                while len(server.texts) < 3:  # noqa: ASYNC110 - the server has no event for it
                    await asyncio.sleep(0.01)
                await stream.finish()
            return server.texts

    *others, last = [json.loads(text)["type"] for text in asyncio.run(converse())]
    assert (set(others), last) == ({"keepalive"}, "finish")


def test_levels_are_events(mock_server: Server) -> None:
    """With `events=["level"]` the loudness of each 100 ms comes as a typed event, with the times of the stream."""
    with Client(mock_server.http).stream(events=["level"]) as stream:
        levels = [event for event in stream.transcribe(reference("hello")) if isinstance(event, Level)]

    assert {level.end_ms % 100 for level in levels} == {0}
    assert any(level.voiced and level.threshold and level.rms > level.threshold for level in levels)


@pytest.mark.parametrize(
    "server",
    ["localhost:8000", "ftp://host", "http://", "http://[::1", "http://a:99999", "http://a b", "http://a/?x=1"],
)
def test_what_is_no_address_is_reported_at_once(server: str) -> None:
    """A mistake in the address is an error before anything is sent."""
    with pytest.raises(ValueError, match="is not the address of a server"):
        Client(server)


def test_streams_and_files_go_over_tls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An authority of one's own is trusted by SSL_CERT_FILE; without, the error names that variable, at once."""
    cert, key = certificate(folder)
    settings = {"STT_BACKEND": "mock", "STT_TLS_CERT": str(cert), "STT_TLS_KEY": str(key)}
    with Server(folder, settings, script=True, wait=False) as server:
        address = f"https://localhost:{server.port}"
        eventually(lambda: "ready on https" in server.output())
        with pytest.raises(ServerUnreachable, match="SSL_CERT_FILE"):
            Client(address).transcribe("references/hello.wav")
        with pytest.raises(ServerUnreachable, match="SSL_CERT_FILE"), Client(address).stream():
            pass
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        assert Client(address).transcribe("references/hello.wav").text == text_of("hello")
        with Client(address).stream() as stream:
            stream.send(reference("hello"))
            (final,) = stream.close()

    assert final.text == text_of("hello")


def test_https_to_a_server_without_tls_says_so(mock_server: Server) -> None:
    """The error says what to write, and no second attempt is made."""
    with pytest.raises(ServerUnreachable, match="write http://"), Client(f"https{mock_server.http[4:]}").stream():
        pass
    with pytest.raises(ServerUnreachable, match="write http://"):
        Client(f"https{mock_server.http[4:]}").transcribe("references/hello.wav")
