"""The client for asyncio programs."""

from __future__ import annotations

import os
import re
import ssl
import uuid
from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult, urlencode, urlsplit, urlunsplit

from stt_client.audio import Codec
from stt_client.stream import AsyncStream
from stt_client.stream_connections import StreamTarget
from stt_client.transcript import ProgressListener, Transcript
from stt_client.upload import UploadTarget, transcribe

DEFAULT_SERVER = "http://localhost:8000"
"""Address of a server on the same machine."""


class AsyncClient:
    """A server, by its address. Holds no connection of its own.

    Example:
        >>> async def main():
        ...     transcript = await AsyncClient().transcribe("references/hello.wav")
        ...     print(transcript.text)
        >>> asyncio.run(main())
        hello and welcome to the speech server
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        api_key: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        connect_seconds: float = 10,
        reconnect_seconds: float = 60,
    ) -> None:
        """Take the address of a server.

        Args:
            server: its URL, such as `https://speech.example.com`; None: the variable STT_SERVER, or else
                http://localhost:8000.
            api_key: sent as `Authorization: Bearer`; None: the variable STT_API_KEY, or else none.
            ssl_context: trust of one's own, for https; None: the system's, or that of the variable SSL_CERT_FILE.
            connect_seconds: how long a server may take to accept the first connection.
            reconnect_seconds: how long a stream without a connection waits for a server before it fails.

        Raises:
            ValueError: `server` is no URL of a server.
        """
        self._server = _Address(server or os.environ.get("STT_SERVER") or DEFAULT_SERVER)
        key = api_key or os.environ.get("STT_API_KEY")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._context = (ssl_context or ssl.create_default_context()) if self._server.secure else None
        self._connect_seconds = connect_seconds
        self._reconnect_seconds = reconnect_seconds

    @property
    def server(self) -> str:
        """The server's URL."""
        return self._server.http("")

    def stream(
        self,
        *,
        sample_rate: int = 16_000,
        codec: Codec = "pcm_s16le",
        channels: int = 1,
        language: str = "auto",
        hotwords: Sequence[str] = (),
        partial_ms: int = 500,
        vad_silence_ms: int | None = None,
        vad_threshold: float | None = None,
        words: bool = False,
        events: Sequence[str] = (),
        call_id: str | None = None,
        keepalive_seconds: float = 60,
    ) -> AsyncStream:
        """A live stream, to be used in `async with`.

        Args:
            sample_rate: of the audio, in Hz.
            codec: of the audio: `pcm_s16le` or `pcm_f32le`; arrays are converted to it.
            channels: 1, or 2 with interleaved samples, each with utterances and events of its own.
            language: `auto`, or a BCP-47 tag.
            hotwords: words to expect.
            partial_ms: least time between two partials.
            vad_silence_ms: silence that ends an utterance; None: the server's own setting.
            vad_threshold: audio with a lower RMS, in 16-bit units, is no voice; None: the server's own setting.
            words: whether finals shall have their words with times.
            events: more events to send: `speech` (`SpeechStarted`, `SpeechStopped`), `level` (`Level`).
            call_id: name of the conversation in the server's log; None: a random one.
            keepalive_seconds: how long the stream may send nothing before it tells the server that it is there.

        Raises:
            ValueError: `sample_rate` is no rate. The server refuses what is under 8000 or over 48000.
        """
        if sample_rate <= 0:
            raise ValueError("sample_rate must be over 0")
        query = _query(
            call_id=call_id or uuid.uuid4().hex[:12],
            sample_rate=sample_rate,
            codec=None if codec == "pcm_s16le" else codec,
            channels=None if channels == 1 else channels,
            language=language,
            hotwords=hotwords,
            partial_ms=partial_ms,
            vad_silence_ms=vad_silence_ms,
            vad_threshold=vad_threshold,
            words=words,
            events=events,
        )
        return AsyncStream(
            StreamTarget(
                self._server.websocket("/v1/stt/ws", query),
                self._headers,
                self._context,
                sample_rate,
                codec,
                self._connect_seconds,
                self._reconnect_seconds,
                keepalive_seconds,
                channels,
            )
        )

    async def transcribe(
        self,
        file: str | os.PathLike[str],
        *,
        language: str = "auto",
        hotwords: Sequence[str] = (),
        vad_silence_ms: int | None = None,
        words: bool = False,
        channel_mode: str = "mix",
        progress: ProgressListener = lambda _progress: None,
    ) -> Transcript:
        """Transcribe a file of any format that the server reads.

        Args:
            file: its path.
            language: `auto`, or a BCP-47 tag.
            hotwords: words to expect.
            vad_silence_ms: silence that ends an utterance; None: the server's own setting.
            words: whether segments shall have their words with times.
            channel_mode: `mix`, `split`, `left` or `right`.
            progress: called on the event loop as bytes are sent, and then as the server decodes.

        Raises:
            OSError: the file cannot be read.
            RequestRefused: the server refuses it.
            ServerUnreachable: no server answers, or the connection breaks again and again.
        """
        query = _query(
            language=language,
            hotwords=hotwords,
            vad_silence_ms=vad_silence_ms,
            words=words,
            channel_mode=channel_mode,
        )
        target = UploadTarget(
            self._server.http("/v1/stt/transcribe"), self._headers, self._context, self._connect_seconds
        )
        return await transcribe(target, file, query, progress)


def _query(**parameters: object) -> dict[str, str]:
    """Query parameters; those that are None, False or empty are left out."""
    given = {name: value for name, value in parameters.items() if value not in (None, False, (), [])}
    return {name: _text(value) for name, value in given.items()}


def _text(value: object) -> str:
    if value is True:
        return "true"
    return ",".join(value) if isinstance(value, list | tuple) else str(value)


class _Address:
    def __init__(self, server: str) -> None:
        if not (parts := _split(server)):
            raise ValueError(f"{server!r} is not the address of a server: write http://HOST:PORT or https://HOST")
        self._parts = parts
        self.secure = parts.scheme in ("https", "wss")

    def http(self, path: str) -> str:
        return self._url("http", path)

    def websocket(self, path: str, query: Mapping[str, str]) -> str:
        return f"{self._url('ws', path)}?{urlencode(query)}"

    def _url(self, scheme: str, path: str) -> str:
        prefix = self._parts.path.rstrip("/")
        return urlunsplit((scheme + "s" * self.secure, self._parts.netloc, prefix + path, "", ""))


def _split(server: str) -> SplitResult | None:
    """The parts of a server's address; None: it is not an address."""
    try:
        parts = urlsplit(server)
        usable = parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number or too large, or half an IPv6 address
        return None
    known = parts.scheme in ("http", "https", "ws", "wss") and not (parts.query or parts.fragment)
    return parts if known and usable and not re.search(r"\s", server) else None
