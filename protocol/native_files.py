"""Our own dialect for files, `POST /v1/stt/transcribe`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from protocol.dialect import HttpRefusal, ServerInfo, json_refusal
from protocol.errors import BadRequest, ServiceError
from protocol.file_dialect import FileOptions, FileProgress, FileSegment, FileTranscript, HttpAnswer
from protocol.http_messages import (
    ErrorEvent,
    ProgressEvent,
    Segment,
    SegmentEvent,
    TranscribeParams,
    Transcript,
    TranscriptEvent,
    WarningItem,
)
from protocol.languages import require_supported
from protocol.native_client_messages import explain
from protocol.timed_word import timed_words


class NativeFiles:
    """Satisfies `protocol.file_dialect.FileDialect`."""

    def __init__(self, server: ServerInfo) -> None:
        self._server = server

    def open(self, query: str, fields: Sequence[tuple[str, str]]) -> FileOptions:
        """The options of the query, of which unknown ones are ignored, and of the form, which go before.

        Raises:
            BadRequest: one is wrong.
        """
        known = {
            name: value
            for name, value in parse_qsl(query, keep_blank_values=True)
            if name in TranscribeParams.model_fields
        }
        try:
            params = TranscribeParams.model_validate(known | dict(fields))
        except ValidationError as error:
            raise BadRequest(explain(error.errors()[0])) from error
        require_supported(params.language, self._server.languages)
        return FileOptions(
            language=params.language,
            hotwords=params.hotwords,
            words=params.words,
            silence_ms=params.vad_silence_ms,
            vad_threshold=params.vad_threshold,
            channel_mode=params.channel_mode,
            stream=params.stream,
        )

    def refusal(self, error: ServiceError) -> HttpRefusal:
        """The body of our HTTP errors."""
        return json_refusal(error)

    def answer(self, transcript: FileTranscript) -> HttpAnswer:
        """`Transcript`."""
        return HttpAnswer(_json(Transcript(**_fields(transcript))))

    def report(self, event: FileSegment | FileProgress) -> Sequence[str]:
        """`SegmentEvent` or `ProgressEvent`."""
        if isinstance(event, FileProgress):
            return (_json(ProgressEvent(position_ms=event.position_ms)),)
        return (_json(SegmentEvent(**_segment_fields(event))),)

    def finish(self, transcript: FileTranscript) -> Sequence[str]:
        """`TranscriptEvent`."""
        return (_json(TranscriptEvent(**_fields(transcript))),)

    def failure(self, error: ServiceError) -> Sequence[str]:
        """`ErrorEvent`."""
        return (_json(ErrorEvent(code=error.http_status, message=str(error))),)


def _fields(transcript: FileTranscript) -> dict[str, Any]:
    return {
        "text": transcript.text,
        "duration_ms": transcript.duration_ms,
        "latency_ms": transcript.latency_ms,
        "language": transcript.language,
        "segments": [Segment(**_segment_fields(each)) for each in transcript.segments],
        "warnings": [WarningItem(code=each.code, message=each.message) for each in transcript.warnings],
    }


def _segment_fields(segment: FileSegment) -> dict[str, Any]:
    return {
        "start_ms": segment.start_ms,
        "end_ms": segment.end_ms,
        "text": segment.text,
        "words": timed_words(segment.words),
        "channel": segment.channel,
    }


def _json(model: BaseModel) -> str:
    return model.model_dump_json(exclude_none=True)
