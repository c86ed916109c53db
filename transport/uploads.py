"""Receives uploads, within bounds of size and time."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from inference.file_transcription import CancellationToken
from protocol.errors import (
    BadRequest,
    ClientTooSlow,
    PayloadTooLarge,
    RefusalReason,
    ServerBusy,
    StorageUnavailable,
)
from transport.byte_budget import ByteBudget

_UPLOAD_SECONDS = 60.0
_UPLOAD_BYTES_PER_SECOND = 16_000
"""An upload may take a minute. A longer one must come at half the rate of live audio or faster, because few uploads are
allowed at once."""
_MAX_FIELDS = 200
"""OpenAI's clients send a list as a field for each of its members."""


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """Limits of one upload, and of all together."""

    max_bytes: int = 104_857_600
    """Bytes of the request's body."""
    max_all_bytes: int = 1_073_741_824
    """Bytes of all uploads that are received, waiting or transcribed. At least `max_bytes`."""
    max_audio_seconds: float = 7200.0
    """Length of the audio."""
    stall_seconds: float = 30.0
    """An upload that sends nothing for so long is ended."""


class _CountedRequest(Request):
    """A request whose body is limited in size and time, also where its length is not declared."""

    def __init__(self, request: Request, options: UploadOptions, budget: ByteBudget) -> None:
        super().__init__(request.scope, request.receive)
        self._options = options
        self._budget = budget
        self.received = 0
        """Bytes of the body so far, as counted in the budget."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body's chunks.

        Raises:
            PayloadTooLarge: it is over STT_MAX_UPLOAD_BYTES.
            ServerBusy: the uploads of all clients take too many bytes.
            ClientTooSlow: nothing came for a while.
        """
        declared = self.headers.get("content-length", "")
        self._check(int(declared) if declared.isdigit() else 0)
        began = time.monotonic()
        chunks = super().stream()
        while chunk := await self._next(chunks, began + _UPLOAD_SECONDS + self.received / _UPLOAD_BYTES_PER_SECOND):
            self._check(self.received + len(chunk))
            self._budget.change(len(chunk))
            self.received += len(chunk)
            yield chunk

    def _check(self, size: int) -> None:
        """Check that a body of `size` bytes is allowed."""
        if size > self._options.max_bytes:
            raise PayloadTooLarge(f"the upload is over {self._options.max_bytes} bytes")
        if size - self.received > self._budget.left:
            raise ServerBusy(f"full: uploads of {self._budget.bytes} bytes are in work", RefusalReason.FULL)

    async def _next(self, chunks: AsyncGenerator[bytes, None], deadline: float) -> bytes:
        seconds = min(self._options.stall_seconds, deadline - time.monotonic())
        try:
            async with asyncio.timeout(seconds):
                return await anext(chunks, b"")
        except TimeoutError as error:
            raise ClientTooSlow(f"the upload is too slow: under {_UPLOAD_BYTES_PER_SECOND} bytes per second") from error


@asynccontextmanager
async def receive_upload(
    request: Request, options: UploadOptions, budget: ByteBudget, cancellation: CancellationToken
) -> AsyncIterator[tuple[UploadFile, Sequence[tuple[str, str]]]]:
    """Receive an upload: its `file`, which is closed with the context, and the other fields of the form.

    Its bytes count in the `budget` of all uploads as they come, until the context ends.

    Raises:
        BadRequest: it is not a form with a file.
        PayloadTooLarge: it is over STT_MAX_UPLOAD_BYTES.
        ServerBusy: the uploads of all clients take too many bytes.
        ClientTooSlow: nothing came for a while.
        Cancelled: `cancellation` was cancelled, on the event loop.
        StorageUnavailable: no disk takes it.
    """
    counted = _CountedRequest(request, options, budget)
    try:
        async with _received(counted, cancellation) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise BadRequest("the body must be multipart/form-data with a file in the field `file`")
            yield file, [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    finally:
        budget.change(-counted.received)


@asynccontextmanager
async def _received(counted: _CountedRequest, cancellation: CancellationToken) -> AsyncIterator[FormData]:
    try:
        async with asyncio.timeout(None) as waiting:
            cancellation.on_cancel = lambda: waiting.reschedule(0)
            form = await counted.form(max_files=1, max_fields=_MAX_FIELDS)
    except OSError as error:  # or that timeout, which is one
        cancellation.check()
        structlog.get_logger().exception("upload_not_stored")
        raise StorageUnavailable from error
    except HTTPException as error:
        raise BadRequest("the body is not valid multipart/form-data") from error
    finally:
        cancellation.on_cancel = None
    try:
        yield form
    finally:
        await counted.close()


def warn_without_temporary_folder() -> None:
    """Log a warning if no temporary folder can be written, so that uploads over 1 MiB will be refused.

    Reads the disk.
    """
    try:
        tempfile.gettempdir()
    except OSError as error:
        structlog.get_logger().warning(
            "uploads_limited", reason="no temporary folder: uploads over 1 MiB get 507; set TMPDIR", error=str(error)
        )
