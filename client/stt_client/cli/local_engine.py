"""The server's engine in this process, for `stt transcribe` without a server. Imports the server's modules."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

import app
from backends import registry
from backends.base import EngineError, StreamOptions
from config import Settings, load_settings
from inference.file_pool import FilePool, FileRequest
from inference.file_transcription import CancellationToken
from inference.file_transcription import transcribe as transcribe_pieces
from protocol.channels import ChannelMode
from protocol.file_audio import AudioRejected, AudioTooLong
from protocol.file_dialect import FileProgress, FileSegment
from protocol.languages import primary_subtag
from protocol.unspaced_scripts import join_texts
from stt_client.cli.exit_codes import Failure
from stt_client.transcript import Segment, Transcript, TranscriptWarning


class LocalEngine:
    """An engine that is loaded once for all files. Used by one thread."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Choose the engine from the environment, as the server does; `say` is called with the choice.

        Raises:
            Failure: none can run here.
        """
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(40),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        )
        os.environ.setdefault("STT_BACKEND", "auto")
        try:
            self._settings: Settings = app.check(load_settings(), say)
        except app.REFUSALS as refusal:
            raise Failure(str(refusal)) from refusal
        self._backend = registry.create(self._settings.backend, self._settings.backends())
        self._files = FilePool(self._settings.vad)

    def __enter__(self) -> Self:
        try:
            self._backend.start()
        except EngineError as error:
            self._close()
            raise Failure(f"The engine {self._settings.backend} does not start: {error}.") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._files.close()
        self._backend.close()

    def transcribe(
        self,
        file: Path,
        *,
        language: str,
        hotwords: tuple[str, ...],
        words: bool,
        channel_mode: str,
        progress: Callable[[float], None],
    ) -> Transcript:
        """Transcribe a file. `progress` is called with the seconds of audio that were read.

        Raises:
            Failure: it cannot be transcribed.
            OSError: it cannot be read.
        """
        settings, voice, segmenter = self._settings, self._settings.voice(), self._settings.segmenter()
        request = FileRequest(
            max_seconds=settings.max_audio_seconds,
            vad_threshold=voice.threshold,
            silence_ms=segmenter.silence_ms,
            max_segment_ms=segmenter.max_segment_ms,
            channel_mode=ChannelMode(channel_mode),
            name=file.name,
        )
        options = StreamOptions(primary_subtag(language), hotwords=hotwords, words=words, live=False)

        def report(event: FileSegment | FileProgress) -> None:
            if isinstance(event, FileProgress):
                progress(event.position_ms / 1000)

        try:
            with file.open("rb") as opened, closing(self._files.read(opened, request)) as pieces:
                result = transcribe_pieces(
                    pieces,
                    lambda: self._backend.stream(options),
                    self._backend.batch_width,
                    CancellationToken(),
                    report,
                )
        except (AudioRejected, AudioTooLong) as error:
            raise Failure(f"{file}: the file {error}.") from error
        except EngineError as error:
            raise Failure(f"{file}: {error}.") from error
        return Transcript(
            text=join_texts(segment.text for segment in result.segments),
            duration_ms=result.duration_ms,
            language=result.language or language,
            segments=tuple(Segment.model_validate(asdict(each)) for each in result.segments),
            warnings=tuple(TranscriptWarning(code=each.code, message=each.message) for each in result.warnings),
        )
