"""The commands of `stt`: arguments and help; the work is in the module of each."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from stt_client.cli import doctor as doctor_command
from stt_client.cli import models as models_command
from stt_client.cli import serve as serve_command
from stt_client.cli.exit_codes import Exit
from stt_client.cli.formats import Format
from stt_client.cli.sources import open_source
from stt_client.cli.stream import StreamRequest
from stt_client.cli.stream import stream as stream_source
from stt_client.cli.transcribe import TranscribeRequest, by_engine, by_server
from stt_client.cli.transcribe import transcribe as transcribe_files
from stt_client.client import AsyncClient

app = typer.Typer(
    help="Speech to text on your own machine.\n\n"
    "  stt serve                          start a server\n\n"
    "  stt stream mic                     see your words as you speak\n\n"
    "  stt transcribe talk.mp3 -f srt     subtitles of a recording\n\n"
    "  stt doctor                         what can run here",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no server, 4 the server refuses, 130 Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
models = typer.Typer(
    help="Models on this machine.\n\n"
    "  stt models                what there is\n\n"
    "  stt models pull base      fetch one, or resume its download",
    invoke_without_command=True,
)
app.add_typer(models, name="models")

Server = Annotated[
    str | None, typer.Option("--server", "-s", envvar="STT_SERVER", help="Address, such as https://speech.example.com.")
]
Key = Annotated[
    str | None,
    typer.Option("--api-key", envvar="STT_API_KEY", help="API key, if the server needs one.", show_envvar=True),
]
Language = Annotated[str, typer.Option("--language", "-l", help="auto, or a tag such as en or de.")]
Hotwords = Annotated[str, typer.Option(help="Words to expect, separated by commas.")]
Json = Annotated[bool, typer.Option("--json", help="JSON for other programs.")]


def _client(server: str | None, api_key: str | None) -> AsyncClient:
    try:
        return AsyncClient(server, api_key=api_key)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--server") from error


def _split(words: str) -> tuple[str, ...]:
    return tuple(word for word in (part.strip() for part in words.split(",")) if word)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: any free one.")] = None,
    backend: Annotated[str | None, typer.Option(help="Engine: auto, whisper, qwen3 or mock.")] = None,
    model: Annotated[str | None, typer.Option(help="Whisper model, fetched if it is not on this machine.")] = None,
    device: Annotated[str | None, typer.Option(help="Where whisper runs: auto, cpu or cuda.")] = None,
    max_sessions: Annotated[int | None, typer.Option(help="Streams at once.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
) -> None:
    """Start the server. Every other setting is an environment variable.

    stt serve --port 9000 --model small
    """
    numbers = {"STT_PORT": port, "STT_MAX_SESSIONS": max_sessions}
    serve_command.serve(
        {
            "STT_HOST": host,
            "STT_BACKEND": backend,
            "STT_WHISPER_MODEL": model,
            "STT_WHISPER_DEVICE": device,
            "STT_LOG_LEVEL": log_level,
            **{name: None if number is None else str(number) for name, number in numbers.items()},
        }
    )


@app.command()
def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Recordings or videos.", metavar="FILE...")],
    form: Annotated[Format, typer.Option("--format", "-f", help="What to write.")] = Format.TEXT,
    output_dir: Annotated[Path | None, typer.Option("--output-dir", "-o", help="Write a file for each.")] = None,
    language: Language = "auto",
    hotwords: Hotwords = "",
    words: Annotated[bool, typer.Option("--words", help="Times of words, in JSON.")] = False,
    channel_mode: Annotated[str, typer.Option(help="mix, split, left or right.")] = "mix",
    json: Json = False,
    server: Server = None,
    api_key: Key = None,
) -> None:
    """Transcribe files. Without --server the engine runs in this process.

    stt transcribe talk.mp3
    stt transcribe *.wav --format srt --output-dir subtitles
    stt transcribe call.wav --json --server http://localhost:8000
    """
    form = Format.JSON if json else form
    words = words or form in (Format.SRT, Format.VTT)
    request = TranscribeRequest(form, output_dir, language, _split(hotwords), words, channel_mode)
    if server:
        raise typer.Exit(transcribe_files(files, request, by_server(_client(server, api_key), request)))
    with by_engine(request) as work:
        raise typer.Exit(transcribe_files(files, request, work))


@app.command()
def stream(
    source: Annotated[str, typer.Argument(help="A recording, - for the standard input, or mic.")],
    language: Language = "auto",
    hotwords: Hotwords = "",
    words: Annotated[bool, typer.Option("--words", help="Times of words, in JSON.")] = False,
    rate: Annotated[
        int, typer.Option(min=8_000, max=48_000, help="Hz of the standard input: signed 16-bit little-endian.")
    ] = 16_000,
    channels: Annotated[int, typer.Option(min=1, max=2, help="2: two speakers, one in each channel.")] = 1,
    silence_ms: Annotated[int | None, typer.Option(help="Silence that ends an utterance.")] = None,
    json: Json = False,
    server: Server = None,
    api_key: Key = None,
) -> None:
    """Stream live speech to a server, and see the words as they come. Ctrl-C ends, and prints the last words.

    stt stream mic
    stt stream talk.wav --language en --server http://localhost:8000
    stt stream call.wav --channels 2
    arecord -t raw -f S16_LE -r 16000 | stt stream - --json
    """
    request = StreamRequest(language, _split(hotwords), words, silence_ms, json)
    client = _client(server, api_key)
    raise typer.Exit(asyncio.run(stream_source(client, open_source(source, rate, channels), request)))


@models.callback()
def list_models(context: typer.Context, json: Json = False) -> None:
    """List models if no other command is given."""
    models_command.require()
    if context.invoked_subcommand is None:
        raise typer.Exit(models_command.show(as_json=json))


@models.command("list")
def list_again(json: Json = False) -> None:
    """List models: size, licence, languages, and folder on this machine."""
    raise typer.Exit(models_command.show(as_json=json))


@models.command()
def pull(names: Annotated[list[str], typer.Argument(metavar="NAME...")]) -> None:
    """Fetch models and check them. A download that broke off is resumed.

    stt models pull base
    """
    raise typer.Exit(models_command.pull(names))


@models.command()
def remove(names: Annotated[list[str], typer.Argument(metavar="NAME...")]) -> None:
    """Delete models.

    stt models remove base
    """
    raise typer.Exit(models_command.remove(names))


@app.command()
def doctor(json: Json = False) -> None:
    """Say what can run on this machine, one line each, and what to do."""
    raise typer.Exit(doctor_command.examine(as_json=json))


def _plain_without_terminal() -> None:
    """Switch colours off if the output is not a terminal: typer would also obey variables of some build services."""
    if "NO_COLOR" not in os.environ and not os.isatty(1):
        os.environ["NO_COLOR"] = "1"


_plain_without_terminal()
__all__ = ["Exit", "app"]
