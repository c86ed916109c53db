"""What `stt stream` reads from its standard input, and where it stops."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stt_client.cli.sources import Source, open_source

RATE = 16_000
PIECE = bytes(3_200)


def rest(source: Source) -> bytes:
    return b"".join(source.pieces)


def test_what_came_before_the_stop_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what the pipe still holds; the end of the input is not awaited."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as standard_input, os.fdopen(writing, "wb", 0) as writer:
        monkeypatch.setattr("sys.stdin", standard_input)
        source = open_source("-", RATE)
        writer.write(PIECE * 15)
        assert next(source.pieces) == PIECE
        source.stop.set()
        assert rest(source) == PIECE * 14


def test_an_input_that_never_pauses_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """After as much as a pipe holds."""
    with Path("/dev/zero").open("rb") as standard_input:
        monkeypatch.setattr("sys.stdin", standard_input)
        source = open_source("-", RATE)
        assert next(source.pieces) == PIECE
        source.stop.set()
        assert 65_536 <= len(rest(source)) < 65_536 + len(PIECE)
