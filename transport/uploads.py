"""Receives uploads, within bounds of size and time."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from protocol.errors import BadRequest, ClientTooSlow, PayloadTooLarge, StorageUnavailable

_UPLOAD_SECONDS = 60.0
_UPLOAD_BYTES_PER_SECOND = 16_000
"""An upload may take a minute, and beyond it no longer than at half the rate of live audio: places are few."""
_MAX_FIELDS = 200
"""OpenAI's clients send a list as a field for each of its members."""


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """How much one upload may bring."""

    max_bytes: int = 104_857_600
    """Bytes of the request's body."""
    max_audio_seconds: float = 7200.0
    """Length of the audio."""
    stall_seconds: float = 30.0
    """An upload that sends nothing for so long gives its place to others; so does one slower than 16 kB/s."""


class _CountedRequest(Request):
    """A request whose body may not exceed its limit, declared or not, and may not stall."""

    def __init__(self, request: Request, options: UploadOptions) -> None:
        super().__init__(request.scope, request.receive)
        self._options = options

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body's chunks.

        Raises:
            PayloadTooLarge: it is over STT_MAX_UPLOAD_BYTES.
            ClientTooSlow: nothing came for a while.
        """
        limit = self._options.max_bytes
        declared = self.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            raise PayloadTooLarge(f"the upload is over {limit} bytes")
        began, received = time.monotonic(), 0
        chunks = super().stream()
        while chunk := await self._next(chunks, began + _UPLOAD_SECONDS + received / _UPLOAD_BYTES_PER_SECOND):
            received += len(chunk)
            if received > limit:
                raise PayloadTooLarge(f"the upload is over {limit} bytes")
            yield chunk

    async def _next(self, chunks: AsyncGenerator[bytes, None], deadline: float) -> bytes:
        seconds = min(self._options.stall_seconds, deadline - time.monotonic())
        try:
            async with asyncio.timeout(seconds):
                return await anext(chunks, b"")
        except TimeoutError as error:
            raise ClientTooSlow(f"the upload is too slow: under {_UPLOAD_BYTES_PER_SECOND} bytes per second") from error


@asynccontextmanager
async def receive_upload(
    request: Request, options: UploadOptions
) -> AsyncIterator[tuple[UploadFile, Sequence[tuple[str, str]]]]:
    """The upload's `file`, all of it received, and the other fields; closed with the context.

    Raises:
        BadRequest: it is no form with a file.
        PayloadTooLarge: it is over STT_MAX_UPLOAD_BYTES.
        ClientTooSlow: nothing came for a while.
        StorageUnavailable: no disk takes it.
    """
    counted = _CountedRequest(request, options)
    try:
        form = await counted.form(max_files=1, max_fields=_MAX_FIELDS)
    except OSError as error:
        structlog.get_logger().exception("upload_not_stored")
        raise StorageUnavailable from error
    except HTTPException as error:
        raise BadRequest("the body is not valid multipart/form-data") from error
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise BadRequest("the body must be multipart/form-data with a file in the field `file`")
        yield file, [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    finally:
        await counted.close()


def warn_without_temporary_folder() -> None:
    """Log that uploads over 1 MiB will be refused, where no temporary folder can be written. Looks at the disk."""
    try:
        tempfile.gettempdir()
    except OSError as error:
        structlog.get_logger().warning(
            "uploads_limited", reason="no temporary folder: uploads over 1 MiB get 507; set TMPDIR", error=str(error)
        )
