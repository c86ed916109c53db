"""Transcribing a file over HTTP."""

from __future__ import annotations

import asyncio
import io
import os
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

import httpx
from pydantic import BaseModel, ConfigDict

from stt_client.connection import refusal_text, retry_after_seconds
from stt_client.errors import RequestRefused, ServerUnreachable, SttError
from stt_client.events import Word
from stt_client.retry import RetrySchedule

Progress = Callable[[int, int], None]
"""Called with the bytes sent so far and the bytes in all."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Segment(_Model):
    """An utterance of a file. Times are ms of the file.

    Example:
        >>> client.transcribe("references/hello.wav").segments[0].end_ms
        2180
    """

    start_ms: int
    """First voiced sample."""
    end_ms: int
    """End of the last voiced sample."""
    text: str
    """Its words."""
    words: tuple[Word, ...] | None = None
    """The words with their times, where asked for and the engine can time them."""
    channel: int | None = None
    """Its channel, from 0; only with `channel_mode="split"`, of a file with several."""


class TranscriptWarning(_Model):
    """A fact about the request that the caller should know.

    Example:
        >>> [warning.code for warning in client.transcribe("references/hello.wav").warnings]
        []
    """

    code: str
    """What it is about."""
    message: str
    """The fact, in words."""


class Transcript(_Model):
    """What a file says.

    Example:
        >>> client.transcribe("references/hello.wav").text
        'hello and welcome to the speech server'
    """

    text: str
    """All segments' texts, joined."""
    duration_ms: int
    """Length of the audio."""
    language: str = ""
    """The language recognised (primary subtag)."""
    segments: tuple[Segment, ...] = ()
    """The utterances, in order."""
    warnings: tuple[TranscriptWarning, ...] = ()
    """Facts about the request."""


async def transcribe(
    url: str,
    file: str | os.PathLike[str],
    *,
    headers: Mapping[str, str],
    context: ssl.SSLContext | None,
    query: Mapping[str, str],
    progress: Progress,
    connect_seconds: float,
) -> Transcript:
    """Send `file` and return what it says; tries again while the server is full or restarts.

    Raises:
        OSError: the file cannot be read.
        RequestRefused: the server refuses it.
        ServerUnreachable: no server answers.
    """
    retry = RetrySchedule(monotonic(), connect_seconds, connect_seconds)
    # An answer may take as long as the audio itself.
    timeout = httpx.Timeout(None, connect=10)
    async with httpx.AsyncClient(headers=headers, verify=context or True, timeout=timeout) as http:
        while True:
            status, retry_after = None, None
            error: SttError
            try:
                with await asyncio.to_thread(_CountedFile, file, progress) as opened:
                    response = await http.post(url, params=query, files={"file": (Path(file).name, opened)})
            except httpx.TransportError as failure:
                error = ServerUnreachable(f"no server answers at {url} ({str(failure) or type(failure).__name__})")
            else:
                if response.is_success:
                    return Transcript.model_validate_json(response.content)
                status, retry_after = response.status_code, retry_after_seconds(response.headers.get("retry-after"))
                error = RequestRefused(status, refusal_text(response.content, response.reason_phrase))
            await _pause(retry, error, status, retry_after)


async def _pause(retry: RetrySchedule, error: SttError, status: int | None, retry_after: float | None) -> None:
    delay = retry.refused(status, retry_after, monotonic())
    if delay is None:
        raise error
    await asyncio.sleep(delay)


class _CountedFile(io.BufferedReader):
    """A file that tells how much of it was read."""

    def __init__(self, file: str | os.PathLike[str], progress: Progress) -> None:
        super().__init__(io.FileIO(file))
        self._progress = progress
        self._total = os.fstat(self.fileno()).st_size
        self._sent = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._sent += len(data)
        self._progress(self._sent, self._total)
        return data
