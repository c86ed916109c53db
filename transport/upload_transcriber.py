"""Serves uploads over HTTP, in every dialect: receives the file, has it transcribed, and answers."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from backends.base import StreamOptions
from inference.file_pool import FilePool, FileRequest
from inference.file_transcription import CancellationToken, Cancelled, DecodedFile, transcribe
from inference.vad_factory import Detector
from observability.tracebacks import without_traceback
from protocol.errors import (
    BadRequest,
    ClientTooSlow,
    InternalError,
    PayloadTooLarge,
    ServerRestarting,
    ServiceError,
)
from protocol.file_audio import AudioRejected, AudioTooLong
from protocol.file_dialect import FileDialect, FileOptions, FileProgress, FileSegment, FileTranscript, NewFileDialect
from protocol.http_messages import CONNECTION_ID_HEADER
from protocol.languages import primary_subtag
from transport.api_keys import caller_of
from transport.app_context import AppContext
from transport.byte_budget import ByteBudget
from transport.event_stream import EventStream
from transport.file_reports import FileReports
from transport.http_common import peer_address
from transport.refusals import refusal_response
from transport.uploads import UploadOptions, receive_upload

_CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that disconnected. It is only counted, never sent."""
STATUSES = (200, 400, 403, 408, 413, 422, _CLIENT_CLOSED_REQUEST, 500, 503, 507)
"""Every status of an answer to an upload."""
_FIRST_EVENT_SECONDS = 10.0
"""After so long events begin, so that no proxy gives up. A later refusal has no HTTP status of its own."""
_KEEP_ALIVE_SECONDS = 15.0
"""How long a stream of events may be silent: proxies give up after 30 s and more."""

_SENT = Response()
"""Placeholder for an answer that was sent already."""
_Report = Callable[[FileSegment | FileProgress], None]


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One request, its dialect, and the function that sends its answer."""

    request: Request
    dialect: FileDialect
    send: Send
    connection_id: str
    log: FilteringBoundLogger


@dataclass(frozen=True, slots=True)
class _Work:
    """One file to be transcribed."""

    exchange: _Exchange
    upload: UploadFile
    options: FileOptions
    cancellation: CancellationToken


class UploadTranscriber:
    """Transcribes uploads; owns the threads and processes that decode files. Used on the event loop."""

    def __init__(self, context: AppContext, options: UploadOptions, threads: int, detector: Detector) -> None:
        """`threads` is the number of transcriptions at once; the others wait."""
        self._context = context
        self._options = options
        self._budget = ByteBudget(max(options.max_all_bytes, options.max_bytes))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="stt-file")
        self._files = FilePool(detector)

    def response(self, request: Request, new_dialect: NewFileDialect) -> Response:
        """The answer to one request. Sending it does all the work."""
        return _Transcription(self, request, new_dialect(self._context.server_info()))

    def close(self) -> None:
        """End the processes and threads. Running work was cancelled before."""
        self._files.close()
        self._pool.shutdown()

    async def serve(self, request: Request, dialect: FileDialect, send: Send) -> None:
        """Answer one request; never raises."""
        connection_id = uuid.uuid4().hex[:12]
        log = self._context.log.bind(
            connection_id=connection_id,
            peer=peer_address(request.scope),
            user_agent=request.headers.get("user-agent", "")[:200],
        )
        response = await self._answer(_Exchange(request, dialect, send, connection_id, log))
        self._context.metrics.requests.labels(str(response.status_code)).inc()
        if response is not _SENT:
            response.headers[CONNECTION_ID_HEADER] = connection_id
            await response(request.scope, request.receive, send)

    async def _answer(self, exchange: _Exchange) -> Response:
        dialect, log = exchange.dialect, exchange.log
        try:
            self._context.check_origin(exchange.request.headers)
            with self._context.admission.request() as cancellation:
                return await self._transcribe(exchange, cancellation)
        except ServiceError as error:
            response = refusal_response(dialect.refusal(error))
            self._context.metrics.refusals_by_reason.labels("http", error.reason).inc()
            log.info("transcription_refused", status=response.status_code, reason=str(error))
        except (ClientDisconnect, Cancelled):
            response = Response(status_code=_CLIENT_CLOSED_REQUEST)
            log.info("transcription_abandoned")
        except Exception:
            response = refusal_response(dialect.refusal(InternalError()))
            log.exception("transcription_failed")
        return response

    async def _transcribe(self, exchange: _Exchange, cancellation: CancellationToken) -> Response:
        request, dialect = exchange.request, exchange.dialect
        async with receive_upload(request, self._options, self._budget, cancellation) as (upload, fields):
            options = dialect.open(request.url.query, fields)
            work = _Work(exchange, upload, options, cancellation)
            if options.stream:
                return await self._stream(work)
            transcript = await self._run(work, lambda _: None)
        answer = await asyncio.to_thread(dialect.answer, transcript)
        return Response(answer.body, media_type=answer.content_type)

    async def _stream(self, work: _Work) -> Response:
        """Send events while the file is decoded. An error before the first event is raised."""
        exchange, reports = work.exchange, FileReports()
        task = asyncio.create_task(self._run(work, reports.put), name="transcription")
        task.add_done_callback(lambda _: reports.end())
        headers = {CONNECTION_ID_HEADER: exchange.connection_id}
        stream = EventStream(exchange.send, self._context.socket.send_timeout_seconds, headers)
        try:
            event = await reports.next(_FIRST_EVENT_SECONDS)
            if reports.ended:
                task.result()
            await stream.start()
            while not reports.ended:
                await (stream.keep_alive() if event is None else stream.events(exchange.dialect.report(event)))
                event = await reports.next(_KEEP_ALIVE_SECONDS)
            await stream.events(await _last_events(exchange, task))
            await stream.end()
        except ClientTooSlow as error:
            work.cancellation.cancel()
            await asyncio.wait([task])
            failure = None if reports.ended else task.exception()  # else `_last_events` has logged it
            _log_failure(exchange.log.bind(reason=str(error)), failure or Cancelled())
        finally:
            work.cancellation.cancel()
            await asyncio.wait([task])
            del task  # its exception refers to this frame: a reference cycle
        return _SENT

    async def _run(self, work: _Work, report: _Report) -> FileTranscript:
        uploaded = time.monotonic()
        decoded = await self._in_thread(work, report)
        self._count(caller_of(work.exchange.request.scope).name, decoded)
        transcript = FileTranscript(
            segments=decoded.segments,
            duration_ms=decoded.duration_ms,
            language=decoded.language or work.options.language,
            warnings=decoded.warnings,
            latency_ms=round((time.monotonic() - uploaded) * 1000),
        )
        work.exchange.log.info("transcription_done", audio_ms=transcript.duration_ms, latency_ms=transcript.latency_ms)
        return transcript

    def _count(self, key: str, decoded: DecodedFile) -> None:
        metrics = self._context.metrics
        metrics.audio.labels("http").inc(decoded.duration_ms / 1000)
        metrics.inference.inc(decoded.inference_seconds)
        if key:
            metrics.key_audio.labels(key, "http").inc(decoded.duration_ms / 1000)
            metrics.key_requests.labels(key).inc()

    async def _in_thread(self, work: _Work, report: _Report) -> DecodedFile:
        thread = asyncio.get_running_loop().run_in_executor(self._pool, self._decode, work, report)
        client = asyncio.create_task(_client_leaves(work.exchange.request))
        try:
            await asyncio.wait((thread, client), return_when=asyncio.FIRST_COMPLETED)
        finally:
            client.cancel()
            work.cancellation.cancel()
            # The thread reads the file, so it must end before the file is closed, also when this task is cancelled.
            await asyncio.wait({thread})
        try:
            return thread.result()
        finally:
            # The exception refers to this frame: without this the two would make a reference cycle.
            del thread

    def _decode(self, work: _Work, report: _Report) -> DecodedFile:
        work.cancellation.check()  # it may have waited for a free thread
        context, backend, wanted = self._context, self._context.lifecycle.backend, work.options
        request = FileRequest(
            max_seconds=self._options.max_audio_seconds,
            vad_threshold=context.vad.threshold if wanted.vad_threshold is None else wanted.vad_threshold,
            silence_ms=wanted.silence_ms or context.segmenter.silence_ms,
            max_segment_ms=context.segmenter.max_segment_ms,
            channel_mode=wanted.channel_mode,
            name=work.upload.filename or "",
        )
        options = StreamOptions(
            primary_subtag(wanted.language),
            hotwords=wanted.hotwords,
            context=wanted.context,
            words=wanted.words,
            task="translate" if wanted.translate else "transcribe",
            live=False,
        )
        try:
            with closing(self._files.read(work.upload.file, request, work.cancellation.check)) as pieces:
                return transcribe(
                    pieces, lambda: backend.stream(options), backend.batch_width, work.cancellation, report
                )
        except AudioRejected as error:
            raise BadRequest(f"the file {error}") from error
        except AudioTooLong as error:
            raise PayloadTooLarge(f"the file {error}") from error


class _Transcription(Response):
    """An answer that does its work while it is sent."""

    def __init__(self, transcriber: UploadTranscriber, request: Request, dialect: FileDialect) -> None:
        super().__init__()
        self._transcriber = transcriber
        self._request = request
        self._dialect = dialect

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        await self._transcriber.serve(self._request, self._dialect, send)


async def _last_events(exchange: _Exchange, task: asyncio.Task[FileTranscript]) -> Sequence[str]:
    """The last events of a transcription."""
    try:
        return await asyncio.to_thread(exchange.dialect.finish, task.result())
    except Exception as error:  # noqa: BLE001 - goes to the log
        return exchange.dialect.failure(_log_failure(exchange.log, error))


def _log_failure(log: FilteringBoundLogger, error: BaseException) -> ServiceError:
    """Log why a transcription has no result; returns what its client is told. The traceback is dropped."""
    told: ServiceError
    if isinstance(error, ServiceError):
        log.info("transcription_refused", reason=str(error))
        told = error
    elif isinstance(error, Cancelled):  # the client disconnected, or the drain ran out of time
        log.info("transcription_abandoned")
        told = ServerRestarting()
    else:
        log.error("transcription_failed", exc_info=error)
        told = InternalError()
    without_traceback(error)
    return told


async def _client_leaves(request: Request) -> None:
    """Wait until the client disconnects. Its body was received before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
