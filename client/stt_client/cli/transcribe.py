"""`stt transcribe`: files, by a server or by an engine in this process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from stt_client.cli import server_modules
from stt_client.cli.exits import Exit, Failure, code_of
from stt_client.cli.formats import Format, written
from stt_client.client import AsyncClient
from stt_client.errors import SttError
from stt_client.transcript import Transcript

Transcribe = Callable[[Path, Progress], Transcript]
"""What a file says, told on a progress display."""


@dataclass(frozen=True, slots=True)
class TranscribeRequest:
    """What the command line asks for."""

    form: Format
    folder: Path | None
    """Where a file is written for each; None: to the standard output."""
    language: str
    hotwords: tuple[str, ...]
    words: bool
    channel_mode: str


_EXTENSIONS = {Format.TEXT: "txt"}


def transcribe(files: Sequence[Path], request: TranscribeRequest, work: Transcribe) -> Exit:
    """Transcribe each file and write what it says; a file that fails is told, and the next one follows."""
    result = Exit.DONE
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    for file in files:
        try:
            with _progress() as progress:
                transcript = work(file, progress)
        except SttError as error:
            result = max(result, code_of(error))
            errors.print(f"{file}: {error}", style="red", markup=False)
            if result is Exit.UNREACHABLE:
                break
        except (Failure, OSError) as error:
            result = max(result, Exit.FAILED)
            told = f"{file} cannot be read: {error.strerror}." if isinstance(error, OSError) else str(error)
            errors.print(told, style="red", markup=False)
        else:
            for warning in transcript.warnings:
                errors.print(f"{file}: {warning.message}", style="yellow", markup=False)
            _write(file, transcript, request)
    return result


def _write(file: Path, transcript: Transcript, request: TranscribeRequest) -> None:
    text = written(transcript, request.form)
    if request.folder is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    extension = _EXTENSIONS.get(request.form, request.form.value)
    request.folder.mkdir(parents=True, exist_ok=True)
    (request.folder / f"{file.stem}.{extension}").write_text(text, encoding="utf-8")


def by_server(client: AsyncClient, request: TranscribeRequest) -> Transcribe:
    """Let a server transcribe."""

    def work(file: Path, progress: Progress) -> Transcript:
        task = progress.add_task(f"{file.name}: sending", total=None)

        def advance(sent: int, total: int) -> None:
            progress.update(task, completed=sent, total=total)
            if sent >= total:
                progress.update(task, description=f"{file.name}: transcribing", total=None)

        return asyncio.run(
            client.transcribe(
                file,
                language=request.language,
                hotwords=request.hotwords,
                words=request.words,
                channel_mode=request.channel_mode,
                progress=advance,
            )
        )

    return work


@contextmanager
def by_engine(request: TranscribeRequest) -> Iterator[Transcribe]:
    """Let an engine in this process transcribe; it is loaded once.

    Raises:
        Failure: none can run here.
    """
    server_modules.require("transcribe` without `--server")
    from stt_client.cli.local_engine import LocalEngine

    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    with LocalEngine(lambda line: errors.print(line, style="dim", markup=False)) as engine:

        def work(file: Path, progress: Progress) -> Transcript:
            task = progress.add_task(f"{file.name}: transcribing", total=_seconds(file))
            return engine.transcribe(
                file,
                language=request.language,
                hotwords=request.hotwords,
                words=request.words,
                channel_mode=request.channel_mode,
                progress=lambda seconds: progress.update(task, completed=seconds),
            )

        yield work


def _seconds(file: Path) -> float | None:
    """Declared length of the audio; None: unknown."""
    import av

    try:
        with av.open(str(file)) as container:
            return None if container.duration is None else container.duration / av.time_base
    except (av.FFmpegError, OSError):
        return None


def _progress() -> Progress:
    """Bars on a terminal, removed when the file is done; nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
