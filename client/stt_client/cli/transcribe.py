"""`stt transcribe`: files, by a server or by an engine in this process."""

from __future__ import annotations

import asyncio
import sys
import wave
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich import progress as bars
from rich.console import Console

from stt_client.cli import server_modules
from stt_client.cli.exit_codes import Exit, Failure, code_of, describe
from stt_client.cli.formats import Format, formatted
from stt_client.client import AsyncClient
from stt_client.errors import SttError
from stt_client.transcript import Progress, Transcript

Transcribe = Callable[[Path, bars.Progress], Transcript]
"""Transcribes a file, and shows its progress on a display."""


@dataclass(frozen=True, slots=True)
class TranscribeRequest:
    """The options of the command."""

    form: Format
    folder: Path | None
    """Folder for a file for each input; None: to the standard output."""
    language: str
    hotwords: tuple[str, ...]
    words: bool
    channel_mode: str


_EXTENSIONS = {Format.TEXT: "txt"}


def transcribe(files: Sequence[Path], request: TranscribeRequest, work: Transcribe) -> Exit:
    """Transcribe each file and write what it says; a file that fails is reported, and the next one follows."""
    result = Exit.DONE
    names = _output_names(files, request)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    for file in files:
        try:
            with _bar() as bar:
                transcript = work(file, bar)
        except SttError as error:
            result = max(result, code_of(error))
            errors.print(f"{file}: {describe(error)}", style="red", markup=False)
            if result is Exit.UNREACHABLE:
                break
        except (Failure, OSError) as error:
            result = max(result, Exit.FAILED)
            text = f"{file} cannot be read: {error.strerror}." if isinstance(error, OSError) else str(error)
            errors.print(text, style="red", markup=False)
        else:
            for warning in transcript.warnings:
                errors.print(f"{file}: {warning.message}", style="yellow", markup=False)
            _write(names[file], formatted(transcript, request.form), request.folder)
    return result


def _output_names(files: Sequence[Path], request: TranscribeRequest) -> Mapping[Path, str]:
    """The name that each file's transcript gets in the folder: talk.wav's is talk.srt unless there is a talk.mp3.

    Raises:
        Failure: two files would be written under one name.
    """
    extension = _EXTENSIONS.get(request.form, request.form.value)
    stems = Counter(file.stem for file in set(files))
    names = {file: f"{file.stem if stems[file.stem] == 1 else file.name}.{extension}" for file in files}
    name, most = Counter(names.values()).most_common(1)[0]
    if request.folder is not None and most > 1:
        raise Failure(f"{most} files would be written to {request.folder / name}: give each a folder of its own.")
    return names


def _write(name: str, text: str, folder: Path | None) -> None:
    if folder is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def by_server(client: AsyncClient, request: TranscribeRequest) -> Transcribe:
    """Let a server transcribe."""

    def work(file: Path, bar: bars.Progress) -> Transcript:
        sending = bar.add_task(f"{file.name}: sending", total=None)
        transcribing = bar.add_task("", total=_seconds(file), visible=False)

        def show(step: Progress) -> None:
            sent = step.sent_bytes == step.total_bytes
            bar.update(sending, completed=step.sent_bytes, total=step.total_bytes, visible=not sent)
            bar.update(transcribing, visible=sent)
            _advance(bar, transcribing, file, step.position_ms / 1000)

        return asyncio.run(
            client.transcribe(
                file,
                language=request.language,
                hotwords=request.hotwords,
                words=request.words,
                channel_mode=request.channel_mode,
                progress=show,
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

        def work(file: Path, bar: bars.Progress) -> Transcript:
            task = bar.add_task(f"{file.name}: transcribing", total=_seconds(file))
            return engine.transcribe(
                file,
                language=request.language,
                hotwords=request.hotwords,
                words=request.words,
                channel_mode=request.channel_mode,
                progress=lambda seconds: _advance(bar, task, file, seconds),
            )

        yield work


def _advance(bar: bars.Progress, task: bars.TaskID, file: Path, seconds: float) -> None:
    position = f" {int(seconds) // 60}:{int(seconds) % 60:02}" if seconds else ""
    bar.update(task, description=f"{file.name}: transcribing{position}", completed=seconds)


def _seconds(file: Path) -> float | None:
    """Declared length of the audio; None: unknown."""
    if not file.is_file():  # reading would take it from the engine
        return None
    try:
        with wave.open(str(file), "rb") as recording:
            return recording.getnframes() / recording.getframerate()
    except (wave.Error, EOFError, OSError):
        return _seconds_by_pyav(file)


def _seconds_by_pyav(file: Path) -> float | None:
    try:
        import av
    except ImportError:  # it comes with the server
        return None
    try:
        with av.open(str(file)) as container:
            return None if container.duration is None else container.duration / av.time_base
    except (av.FFmpegError, OSError):
        return None


def _bar() -> bars.Progress:
    """A progress bar on a terminal, removed when the file is done; nothing elsewhere."""
    console = Console(stderr=True)
    columns = (
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        bars.TimeElapsedColumn(),
    )
    return bars.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
