"""Writes timed texts as subtitles: SubRip (.srt) and WebVTT (.vtt). Pure; any thread.

The limits are the usual ones of broadcasters: two lines of 42 columns, of which a Chinese, Japanese or Korean character
takes two, and at most 7 s on the screen (Netflix, "Timed Text Style Guide: General Requirements"). A word is never cut,
so one that is longer than a line stands alone on a line that is too long.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from protocol.unspaced_scripts import is_unspaced

LINE_COLUMNS = 42
LINES = 2
MAX_MS = 7_000
PAUSE_MS = 2_000
"""Silence between two words after which a new cue begins."""
MIN_MS = 1_000
"""A shorter cue is extended up to the next one, to at most this."""
_PUNCTUATION_COLUMNS = 8
"""How many columns longer one of two lines may be so that the break is after punctuation."""
_SENTENCE_ENDS = ".!?…。！？"  # noqa: RUF001 - Chinese
_CLOSING = "\"'»”’)]」』"  # noqa: RUF001 - quotation marks


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word and its times in ms."""

    word: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class TimedText:
    """A text with its time."""

    text: str
    start_ms: int
    end_ms: int
    words: Sequence[TimedWord] = ()
    """The words of the text, in order; empty: the times are estimated by spreading them evenly."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A subtitle."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    """A part of the text that is never cut."""

    text: str
    blank: bool
    """Whether a blank stands before it."""
    start_ms: float
    end_ms: float


def cues(texts: Iterable[TimedText]) -> list[Cue]:
    """Cut texts, in the order of time, into cues."""
    made = [_cue(tokens) for text in texts for tokens in _cue_tokens(_tokens(text))]
    return [*(_prolonged(cue, following) for cue, following in pairwise(made)), *made[-1:]]


def to_srt(subtitles: Iterable[Cue]) -> str:
    """The text of a SubRip file."""
    blocks = [
        f"{number}\n{_time(cue.start_ms, ',')} --> {_time(cue.end_ms, ',')}\n{chr(10).join(cue.lines)}\n"
        for number, cue in enumerate(subtitles, 1)
    ]
    return "\n".join(blocks)


def to_vtt(subtitles: Iterable[Cue]) -> str:
    """The text of a WebVTT file."""
    blocks = [
        f"{_time(cue.start_ms, '.')} --> {_time(cue.end_ms, '.')}\n{_escaped(chr(10).join(cue.lines))}\n"
        for cue in subtitles
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


def _cue(tokens: Sequence[_Token]) -> Cue:
    start, end = round(tokens[0].start_ms), round(tokens[-1].end_ms)
    return Cue(start, max(end, start + 1), _lines(tokens))


def _prolonged(cue: Cue, following: Cue) -> Cue:
    """A cue that is long enough to be read and ends before the next one begins."""
    end = max(cue.end_ms, min(cue.start_ms + MIN_MS, following.start_ms))
    return Cue(cue.start_ms, max(cue.start_ms + 1, min(end, following.start_ms)), cue.lines)


# Tokens


def _tokens(text: TimedText) -> list[_Token]:
    timed = _timed_tokens(text)
    return _spread_tokens(text) if timed is None else timed


def _timed_tokens(text: TimedText) -> list[_Token] | None:
    """The text cut at its words, with their times; None: it has none, or they are not those of the text."""
    starts: list[int] = []
    position = 0
    for word in text.words:
        spelled = word.word.strip()
        position = text.text.find(spelled, position)
        if position < 0 or not spelled:
            return None
        starts.append(position)
        position += len(spelled)
    if not starts:
        return None
    starts[0] = 0
    tokens: list[_Token] = []
    for word, start, end in zip(text.words, starts, [*starts[1:], len(text.text)], strict=True):
        blank = start > 0 and text.text[start - 1].isspace()
        tokens += _cut_token(_Token(text.text[start:end].strip(), blank, word.start_ms, word.end_ms))
    return tokens


def _cut_token(token: _Token) -> list[_Token]:
    """Its parts, where an engine takes several words, or a stretch without blanks, for one."""
    parts = list(_parts(token.text))
    step = (token.end_ms - token.start_ms) / max(1, len(parts))
    return [
        _Token(
            part, blank if number else token.blank, token.start_ms + number * step, token.start_ms + (number + 1) * step
        )
        for number, (part, blank) in enumerate(parts)
    ]


def _spread_tokens(text: TimedText) -> list[_Token]:
    """Tokens that take as much time as they have characters."""
    parts = list(_parts(text.text))
    step = (text.end_ms - text.start_ms) / max(1, sum(len(part) for part, _ in parts))
    tokens: list[_Token] = []
    at = float(text.start_ms)
    for part, blank in parts:
        tokens.append(_Token(part, blank, at, at + len(part) * step))
        at += len(part) * step
    return tokens


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """Words, or characters of scripts without blanks, and whether a blank stands before each."""
    for chunk in text.split():
        first = 0
        for at in range(1, len(chunk)):
            if _may_break(chunk[at - 1], chunk[at]):
                yield chunk[first:at], first == 0
                first = at
        yield chunk[first:], first == 0


def _may_break(before: str, after: str) -> bool:
    """Whether a line may end between two characters without a blank: punctuation stays with what it belongs to."""
    if not (is_unspaced(before) or is_unspaced(after)):
        return False
    categories = unicodedata.category(before), unicodedata.category(after)
    return not (categories[1][0] in "PM" and categories[1] not in ("Ps", "Pi")) and categories[0] not in ("Ps", "Pi")


# Cues and lines


def _cue_tokens(tokens: Sequence[_Token]) -> Iterator[Sequence[_Token]]:
    """Groups of tokens that stand on the screen together."""
    group: list[_Token] = []
    for token in tokens:
        if group and _ends_cue(group, token):
            yield group
            group = []
        group.append(token)
    if group:
        yield group


def _ends_cue(group: Sequence[_Token], following: _Token) -> bool:
    sentence_ends = group[-1].text.rstrip(_CLOSING).endswith(tuple(_SENTENCE_ENDS))
    return (
        len(_lines([*group, following])) > LINES
        or following.end_ms - group[0].start_ms > MAX_MS
        or following.start_ms - group[-1].end_ms > PAUSE_MS
        or (sentence_ends and _columns(_joined(group)) > LINE_COLUMNS)
    )


def _lines(tokens: Sequence[_Token]) -> tuple[str, ...]:
    """The fewest lines that hold the tokens; two are as equal in length as they can be."""
    whole = _joined(tokens)
    if _columns(whole) <= LINE_COLUMNS:
        return (whole,)
    pairs = [(_joined(tokens[:at]), _joined(tokens[at:])) for at in range(1, len(tokens))]
    fitting = [pair for pair in pairs if max(map(_columns, pair)) <= LINE_COLUMNS]
    if fitting:
        return min(fitting, key=_imbalance)
    return _filled_lines(tokens)


def _imbalance(pair: tuple[str, str]) -> int:
    """How bad a break is: by the difference of the lines, and less bad behind punctuation."""
    behind_punctuation = unicodedata.category(pair[0][-1]).startswith("P")
    return abs(_columns(pair[0]) - _columns(pair[1])) + (0 if behind_punctuation else _PUNCTUATION_COLUMNS)


def _filled_lines(tokens: Sequence[_Token]) -> tuple[str, ...]:
    lines: list[list[_Token]] = [[]]
    for token in tokens:
        if lines[-1] and _columns(_joined([*lines[-1], token])) > LINE_COLUMNS:
            lines.append([])
        lines[-1].append(token)
    return tuple(map(_joined, lines))


def _joined(tokens: Sequence[_Token]) -> str:
    return "".join(f" {token.text}" if token.blank and number else token.text for number, token in enumerate(tokens))


def _columns(text: str) -> int:
    """How wide a text is; a full-width character takes two columns."""
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else not unicodedata.combining(each) for each in text)
