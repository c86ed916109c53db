"""A word with its times, in messages and in HTTP answers."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from protocol.events import Word


class TimedWord(BaseModel):
    """One recognised word."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    word: str
    """The word as recognised."""
    start_ms: int
    """Where it starts, in ms of the connection's audio or the file."""
    end_ms: int
    """Where it ends, in ms of the connection's audio or the file."""
    confidence: float
    """The engine's confidence, 0 to 1."""


def timed_words(words: Iterable[Word] | None) -> list[TimedWord] | None:
    """Convert words for messages; None: the engine gave none."""
    if words is None:
        return None
    return [
        TimedWord(word=each.word, start_ms=each.start_ms, end_ms=each.end_ms, confidence=each.confidence)
        for each in words
    ]
