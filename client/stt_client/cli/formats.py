"""A transcript in each format of `stt transcribe`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from html import escape

from stt_client.cli.subtitles import cues
from stt_client.transcript import Transcript


class Format(StrEnum):
    """Values of `--format`."""

    TEXT = "text"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"
    TSV = "tsv"


def formatted(transcript: Transcript, form: Format) -> str:
    """The transcript in that format, with a line break at its end."""
    return _WRITERS[form](transcript)


def _text(transcript: Transcript) -> str:
    return f"{transcript.text}\n"


def _json(transcript: Transcript) -> str:
    return f"{transcript.model_dump_json(exclude_none=True)}\n"


def _srt(transcript: Transcript) -> str:
    return "\n".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n" + "\n".join(cue.lines) + "\n"
        for number, cue in enumerate(cues(transcript.segments), 1)
    )


def _vtt(transcript: Transcript) -> str:
    blocks = (
        f"\n{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n"
        + "\n".join(escape(line, quote=False) for line in cue.lines)
        + "\n"
        for cue in cues(transcript.segments)
    )
    return "WEBVTT\n" + "".join(blocks)


def _tsv(transcript: Transcript) -> str:
    rows = (
        f"{segment.start_ms}\t{segment.end_ms}\t{' '.join(segment.text.split())}\n" for segment in transcript.segments
    )
    return "start\tend\ttext\n" + "".join(rows)


def _clock(ms: int, point: str) -> str:
    seconds, rest = divmod(ms, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


_WRITERS: Mapping[Format, Callable[[Transcript], str]] = {
    Format.TEXT: _text,
    Format.JSON: _json,
    Format.SRT: _srt,
    Format.VTT: _vtt,
    Format.TSV: _tsv,
}
