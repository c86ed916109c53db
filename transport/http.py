"""`/v1/stt/transcribe`, `/health`, `/health/live` and `/metrics`."""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

import structlog
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from structlog.typing import FilteringBoundLogger

from backends.base import StreamOptions
from inference.file_pool import FilePool, FileRequest
from inference.transcribe import CancellationToken, Cancelled, FileTranscript, transcribe
from inference.vad_factory import Detector
from protocol.audio import AudioRejected, AudioTooLong
from protocol.dialect import json_refusal
from protocol.errors import BadRequest, ClientTooSlow, InternalError, PayloadTooLarge, ServiceError, StorageUnavailable
from protocol.http_messages import (
    CONNECTION_ID_HEADER,
    RETRY_AFTER_SECONDS,
    Health,
    Readiness,
    TranscribeParams,
    Transcript,
    WarningItem,
)
from protocol.languages import primary_subtag, require_supported
from protocol.native_client_messages import explain
from protocol.unspaced_scripts import join_texts
from transport.api_keys import caller_of
from transport.app_context import AppContext
from transport.http_edge import peer_address

_CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that left; nobody receives it, but it is counted."""


STATUSES = (200, 403, 408, 413, 422, _CLIENT_CLOSED_REQUEST, 500, 503, 507)
"""Of answers to uploads."""
_UPLOAD_SECONDS = 60.0
_UPLOAD_BYTES_PER_SECOND = 16_000
"""An upload may take a minute, and beyond it no longer than at half the rate of live audio: places are few."""


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """How much one upload may bring."""

    max_bytes: int = 104_857_600
    """Bytes of the request's body."""
    max_audio_seconds: float = 7200.0
    """Length of the audio."""
    stall_seconds: float = 30.0
    """An upload that sends nothing for so long gives its place to others; so does one slower than 16 kB/s."""


class Transcriber:
    """Serves `POST /v1/stt/transcribe`; owns the threads that decode files. Used on the event loop."""

    def __init__(self, context: AppContext, options: UploadOptions, threads: int, detector: Detector) -> None:
        """`threads` is the number of transcriptions at once; the others wait."""
        self._context = context
        self._options = options
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="stt-file")
        self._files = FilePool(detector)

    async def serve(self, request: Request) -> Response:
        """Answer one request; never raises."""
        connection_id = uuid.uuid4().hex[:12]
        log = self._context.log.bind(
            connection_id=connection_id,
            peer=peer_address(request.scope),
            user_agent=request.headers.get("user-agent", "")[:200],
        )
        try:
            self._context.check_origin(request.headers)
            with self._context.admission.request() as cancellation:
                response = await self._transcribe(request, cancellation, log)
        except ServiceError as error:
            response = _refusal(error)
            self._context.metrics.refusals_by_reason.labels("http", error.reason).inc()
            log.info("transcription_refused", status=error.http_status, reason=str(error))
        except (ClientDisconnect, Cancelled):
            response = Response(status_code=_CLIENT_CLOSED_REQUEST)
            log.info("transcription_abandoned")
        except Exception:
            response = _refusal(InternalError())
            log.exception("transcription_failed")
        response.headers[CONNECTION_ID_HEADER] = connection_id
        self._context.metrics.requests.labels(str(response.status_code)).inc()
        return response

    def close(self) -> None:
        """End the processes and threads; what still runs was told to stop."""
        self._files.close()
        self._pool.shutdown()

    async def _transcribe(
        self, request: Request, cancellation: CancellationToken, log: FilteringBoundLogger
    ) -> Response:
        async with _uploaded(request, self._options) as (file, fields):
            params = _params(request, fields)
            require_supported(params.language, self._context.lifecycle.backend.languages)
            uploaded = time.monotonic()
            result = await self._in_thread(request, file, params, cancellation)
        self._count(caller_of(request.scope).name, result)
        answer = Transcript(
            text=join_texts(segment.text for segment in result.segments),
            duration_ms=result.duration_ms,
            latency_ms=round((time.monotonic() - uploaded) * 1000),
            language=result.language or params.language,
            segments=result.segments,
            warnings=[WarningItem(code=each.code, message=each.message) for each in result.warnings],
        )
        log.info("transcription_done", audio_ms=answer.duration_ms, latency_ms=answer.latency_ms)
        return JSONResponse(answer.model_dump(mode="json", exclude_none=True))

    def _count(self, key: str, result: FileTranscript) -> None:
        metrics = self._context.metrics
        metrics.audio.labels("http").inc(result.duration_ms / 1000)
        metrics.inference.inc(result.inference_seconds)
        if key:
            metrics.key_audio.labels(key, "http").inc(result.duration_ms / 1000)
            metrics.key_requests.labels(key).inc()

    async def _in_thread(
        self, request: Request, file: UploadFile, params: TranscribeParams, cancellation: CancellationToken
    ) -> FileTranscript:
        loop = asyncio.get_running_loop()
        work: asyncio.Future[FileTranscript] = loop.run_in_executor(
            self._pool, self._decode, file, params, cancellation
        )
        client = asyncio.create_task(_client_leaves(request))
        try:
            await asyncio.wait((work, client), return_when=asyncio.FIRST_COMPLETED)
        finally:
            client.cancel()
            cancellation.cancel()
            # The thread reads the file, so the file must outlive it, also when this task is cancelled.
            await asyncio.wait({work})
        try:
            return work.result()
        finally:
            # What it raises holds this frame, which would hold it.
            del work

    def _decode(self, upload: UploadFile, params: TranscribeParams, cancellation: CancellationToken) -> FileTranscript:
        cancellation.check()  # it may have waited for its turn
        context, backend = self._context, self._context.lifecycle.backend
        request = FileRequest(
            max_seconds=self._options.max_audio_seconds,
            vad_threshold=context.vad.threshold if params.vad_threshold is None else params.vad_threshold,
            silence_ms=params.vad_silence_ms or context.segmenter.silence_ms,
            max_segment_ms=context.segmenter.max_segment_ms,
            channel_mode=params.channel_mode,
            name=upload.filename or "",
        )
        options = StreamOptions(
            primary_subtag(params.language), hotwords=params.hotwords, words=params.words, live=False
        )
        try:
            with closing(self._files.read(upload.file, request)) as pieces:
                return transcribe(pieces, lambda: backend.stream(options), backend.batch_width, cancellation)
        except AudioRejected as error:
            raise BadRequest(f"the file {error}") from error
        except AudioTooLong as error:
            raise PayloadTooLarge(f"the file {error}") from error


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
async def _uploaded(request: Request, options: UploadOptions) -> AsyncIterator[tuple[UploadFile, dict[str, str]]]:
    """The upload's `file`, all of it received, and the other fields; closed with the context."""
    counted = _CountedRequest(request, options)
    try:
        form = await counted.form(max_files=1, max_fields=10)
    except OSError as error:
        structlog.get_logger().exception("upload_not_stored")
        raise StorageUnavailable from error
    except HTTPException as error:
        raise BadRequest("the body is not valid multipart/form-data") from error
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise BadRequest("the body must be multipart/form-data with a file in the field `file`")
        yield file, {name: value for name, value in form.items() if isinstance(value, str)}
    finally:
        await counted.close()


async def _client_leaves(request: Request) -> None:
    """Wait until the client disconnects; its body was received already."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _params(request: Request, fields: dict[str, str]) -> TranscribeParams:
    """The options of the query, of which unknown ones are ignored, and of the form, which go before."""
    known = {name: value for name, value in request.query_params.items() if name in TranscribeParams.model_fields}
    try:
        return TranscribeParams.model_validate(known | fields)
    except ValidationError as error:
        raise BadRequest(explain(error.errors()[0])) from error


def _refusal(error: ServiceError) -> Response:
    refusal = json_refusal(error)
    return Response(refusal.body, refusal.status, dict(refusal.headers), refusal.content_type)


def health(context: AppContext) -> Response:
    """Answer of `GET /health`: 200 only when warm and able."""
    admission = context.admission
    answer = Health(
        status=admission.status,
        backend=context.lifecycle.backend.name,
        sessions=admission.sessions,
        max_sessions=admission.max_sessions,
    )
    ok = answer.status == "ok"
    headers = None if ok else {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return JSONResponse(answer.model_dump(), 200 if ok else 503, headers)


def readiness(context: AppContext) -> Response:
    """Answer of `GET /health/ready`: 200 only when a new session would be let in."""
    admission = context.admission
    answer = Readiness(
        status=admission.readiness,
        sessions=admission.sessions,
        max_sessions=admission.max_sessions,
        seconds_behind=round(admission.seconds_behind, 3),
    )
    ready = answer.status == "ready"
    headers = None if ready else {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return JSONResponse(answer.model_dump(), 200 if ready else 503, headers)


def warn_without_temporary_folder() -> None:
    """Log that uploads over 1 MiB will be refused, where no temporary folder can be written. Looks at the disk."""
    try:
        tempfile.gettempdir()
    except OSError as error:
        structlog.get_logger().warning(
            "uploads_limited", reason="no temporary folder: uploads over 1 MiB get 507; set TMPDIR", error=str(error)
        )


def metrics(context: AppContext) -> Response:
    """Answer of `GET /metrics`, in the text format of Prometheus."""
    return Response(context.metrics.render(), media_type=CONTENT_TYPE_LATEST)
