"""Sends a file over HTTP, and reads the server's events."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import httpx

from stt_client.connection import OPEN_SECONDS, Refused, refusal_text, retry_after_seconds
from stt_client.errors import RequestRefused, SttError
from stt_client.retry import RetrySchedule
from stt_client.transcript import Progress, ProgressListener, Transcript
from stt_client.unreachable import ConnectionBroken, NeverReachable, proxy_unusable, unreachable


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """Address and options of uploads."""

    url: str
    headers: Mapping[str, str]
    context: ssl.SSLContext | None
    connect_seconds: float
    """How long to wait for a server, over all attempts."""


async def transcribe(
    target: UploadTarget, file: str | os.PathLike[str], query: Mapping[str, str], listener: ProgressListener
) -> Transcript:
    """Send `file` and return what it says; tries again while the server is full or restarts.

    Raises:
        OSError: the file cannot be read.
        RequestRefused: the server refuses it.
        ServerUnreachable: no server answers.
    """
    retry = RetrySchedule(monotonic(), target.connect_seconds, target.connect_seconds)
    busy_seconds = 0.0
    async with _http(target) as http:
        while True:
            begin = monotonic()
            with await asyncio.to_thread(_CountedFile, file, listener) as opened:
                try:
                    return await _attempt(http, target.url, query, opened)
                except Refused as refusal:
                    failure = refusal
            now = monotonic()
            if opened.progress.sent_bytes:  # the server worked on the file: this was no wait for a server
                busy_seconds += now - begin
            delay = retry.refused(failure.status, failure.retry_after, now - busy_seconds)
            if delay is None:
                raise failure.error
            await asyncio.sleep(delay)


def _http(target: UploadTarget) -> httpx.AsyncClient:
    # An answer may take as long as the audio itself.
    timeout = httpx.Timeout(None, connect=OPEN_SECONDS)
    try:
        return httpx.AsyncClient(headers=target.headers, verify=target.context or True, timeout=timeout)
    except (ImportError, ValueError) as error:  # a proxy of the environment that httpx cannot use
        raise proxy_unusable(error) from error


class _CountedFile(io.BufferedReader):
    """A file that reports how much of it was read."""

    def __init__(self, file: str | os.PathLike[str], listener: ProgressListener) -> None:
        super().__init__(io.FileIO(file))
        status = os.fstat(self.fileno())
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise OSError(errno.ESPIPE, "it is not a regular file, so its length is not known", os.fspath(file))
        self._listener = listener
        self.progress = Progress(0, status.st_size)

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._tell(replace(self.progress, sent_bytes=self.progress.sent_bytes + len(data)))
        return data

    def decoded(self, position_ms: int) -> None:
        """The server has decoded the file up to `position_ms`."""
        self._tell(replace(self.progress, position_ms=position_ms))

    def _tell(self, progress: Progress) -> None:
        if progress != self.progress:
            self.progress = progress
            self._listener(progress)


async def _attempt(http: httpx.AsyncClient, url: str, query: Mapping[str, str], opened: _CountedFile) -> Transcript:
    """Send the file once.

    Raises:
        Refused: another attempt may succeed.
        SttError: none would.
    """
    files = {"file": (Path(opened.name).name, opened)}
    try:
        async with http.stream("POST", url, params={**query, "stream": "true"}, files=files) as response:
            if response.is_success:
                return await _transcript(response, opened)
            await response.aread()
            raise _refused(response)
    except httpx.TransportError as error:
        raise _broken(url, error, opened.progress) from error


def _refused(response: httpx.Response) -> Refused:
    status = response.status_code
    text = refusal_text(response.content, response.reason_phrase)
    if response.has_redirect_location:
        text = f"it is at {response.headers['location']}, so use that address"
    return Refused(RequestRefused(status, text), status, retry_after_seconds(response.headers.get("retry-after")))


def _broken(url: str, error: BaseException, progress: Progress) -> Refused:
    """The error of an attempt that ended without an answer."""
    failure = unreachable(url, error)
    if isinstance(failure, NeverReachable):
        raise failure from error
    if progress.sent_bytes:
        sent = f"after {progress.sent_bytes} of {progress.total_bytes} bytes"
        return Refused(ConnectionBroken(f"the connection to {url} broke {sent} ({str(error) or type(error).__name__})"))
    return Refused(failure)


async def _transcript(response: httpx.Response, opened: _CountedFile) -> Transcript:
    """Read the server-sent events until the whole transcript."""
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        raise SttError(f"what answers at {response.url.copy_with(query=None)} is no server of this kind")
    async for line in response.aiter_lines():
        if line.startswith("data:") and (transcript := _event(line.removeprefix("data:"), opened)):
            return transcript
    raise httpx.RemoteProtocolError("the answer has no transcript")


def _event(text: str, opened: _CountedFile) -> Transcript | None:
    """Act on an event; the transcript, if it is that."""
    try:
        event = json.loads(text)
        match event["type"]:
            case "transcript":
                return Transcript.model_validate(event)
            case "progress":
                opened.decoded(int(event["position_ms"]))
            case "error":
                code = int(event["code"])
                raise Refused(RequestRefused(code, str(event["message"])), code)
    except (ValueError, KeyError, TypeError) as error:
        raise SttError("the server sent an event that is not of this protocol") from error
    return None
