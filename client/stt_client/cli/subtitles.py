"""A transcript as subtitles: at most two lines of 42 characters, cut between words. Pure.

42 characters and two lines are what broadcasters ask for (BBC Subtitle Guidelines 37, Netflix Timed Text Style Guide
42). Times come from the words where the engine timed them, else from how far into the text a word stands.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from stt_client.events import Word
from stt_client.transcript import Segment

LINE_CHARACTERS = 42
LINES = 2
PAUSE_MS = 1_000
"""Silence between two words after which a new subtitle begins."""

_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC", "FULLWIDTH", "THAI", "LAO", "KHMER", "MYANMAR")
"""Beginnings of the names of characters whose scripts put no blanks between words."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle; times in ms of the file."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    """A part of the text that stays on one line, with its times."""

    text: str
    spaced: bool
    """Whether a blank comes before it."""
    start_ms: int
    end_ms: int


def cues(segments: Iterable[Segment]) -> list[Cue]:
    """The subtitles of a file's segments, in order."""
    return [cue for segment in segments for cue in _of_segment(segment)]


def _of_segment(segment: Segment) -> list[Cue]:
    """The fewest subtitles; of several ways, the one with the shortest lines.

    So the last subtitle is not a single word that is too short to read.
    """
    tokens = _tokens(segment)
    fewest = list(_filled(tokens, LINE_CHARACTERS))
    if len(fewest) > 1:
        for width in range(LINE_CHARACTERS // 2, LINE_CHARACTERS):
            balanced = list(_filled(tokens, width))
            if len(balanced) == len(fewest):
                return balanced
    return fewest


def _filled(tokens: Iterable[_Token], width: int) -> Iterator[Cue]:
    """Subtitles with lines of at most `width` characters, each as full as can be."""
    lines: list[str] = []
    shown: list[_Token] = []
    for token in tokens:
        if shown and token.start_ms - shown[-1].end_ms >= PAUSE_MS:
            yield _cue(lines, shown)
            lines, shown = [], []
        joined = lines[-1] + (" " if token.spaced else "") + token.text if lines else token.text
        if lines and len(joined) <= width:
            lines[-1] = joined
        elif len(lines) < LINES:
            lines.append(token.text)
        else:
            yield _cue(lines, shown)
            lines, shown = [token.text], []
        shown.append(token)
    if shown:
        yield _cue(lines, shown)


def _cue(lines: Sequence[str], tokens: Sequence[_Token]) -> Cue:
    start = tokens[0].start_ms
    return Cue(start, max(tokens[-1].end_ms, start + 1), tuple(lines))


def _tokens(segment: Segment) -> list[_Token]:
    pieces = _pieces(segment.text)
    if segment.words and (spans := _word_spans(segment.text, segment.words)):
        return [_token(piece, spans) for piece in pieces]
    length = max(1, len(segment.text))
    duration = segment.end_ms - segment.start_ms

    def at(position: int) -> int:
        return segment.start_ms + duration * position // length

    return [_Token(text, spaced, at(begin), at(begin + len(text))) for text, spaced, begin in pieces]


def _pieces(text: str) -> list[tuple[str, bool, int]]:
    """The text's words, whether a blank comes before each, and where each begins.

    Scripts without blanks between words are cut between any two characters, but not before punctuation.
    """
    pieces: list[tuple[str, bool, int]] = []
    for found in re.finditer(r"\S+", text):
        begin = found.start()
        for offset, part in _parts(found[0]):
            pieces.append((part, offset == 0, begin + offset))
    return pieces


def _parts(word: str) -> Iterator[tuple[int, str]]:
    start = 0
    for index in range(1, len(word)):
        if _unspaced(word[index]) and _unspaced(word[index - 1]) and unicodedata.category(word[index])[0] == "L":
            yield start, word[start:index]
            start = index
    yield start, word[start:]


def _unspaced(character: str) -> bool:
    """Whether the character is of a script that puts no blanks between words. Korean does put them."""
    name = unicodedata.name(character, "") if character > "\u0dff" else ""
    return name.startswith(_UNSPACED)


def _word_spans(text: str, words: Sequence[Word]) -> list[tuple[int, int, Word]]:
    """Position of each word in the text; empty if one is not found in order."""
    spans: list[tuple[int, int, Word]] = []
    position = 0
    for word in words:
        bare = word.word.strip()
        begin = text.find(bare, position)
        if not bare or begin < 0:
            return []
        position = begin + len(bare)
        spans.append((begin, position, word))
    return spans


def _token(piece: tuple[str, bool, int], spans: Sequence[tuple[int, int, Word]]) -> _Token:
    text, spaced, begin = piece
    touched = [word for first, last, word in spans if first < begin + len(text) and last > begin]
    if not touched:  # punctuation that the engine gave no time: it belongs to the word before
        touched = [word for _, last, word in spans if last <= begin][-1:] or [spans[0][2]]
    return _Token(text, spaced, touched[0].start_ms, touched[-1].end_ms)
