"""Detects and removes repetitions in a decoder's text. Pure."""

from __future__ import annotations

import math
import re
import zlib

COMPRESSION_LIMIT = 2.4
"""Bytes of text for each compressed byte, above which a text repeats itself (`compression_ratio_threshold` of Whisper's
own code)."""
REPETITIONS = 3
"""Most repetitions of a phrase in a row that are kept."""
_LONGEST_PHRASE = 12
"""Words."""
_SLACK_TOKENS = 12
_TOKENS_PER_SECOND = {"en": 6}
_OTHER_TOKENS_PER_SECOND = 10
"""English speech has about 4 tokens a second; other languages are split finer."""
MAX_TEXT_TOKENS = 224
"""Longest text of one window (`n_text_ctx // 2` in Whisper's own code)."""
_WORD = re.compile(r"\S+")


def token_limit(seconds: float, language: str) -> int:
    """Most tokens in so many seconds of speech. A text that reaches the limit repeats itself or is invented."""
    rate = _TOKENS_PER_SECOND.get(language, _OTHER_TOKENS_PER_SECOND)
    return min(MAX_TEXT_TOKENS, _SLACK_TOKENS + math.ceil(rate * seconds))


def runs_away(text: str, tokens: int, limit: int) -> bool:
    """Whether the decoder did not end, or repeated itself."""
    return tokens >= limit or compression_ratio(text) > COMPRESSION_LIMIT


def repeats(text: str) -> bool:
    """Whether a phrase is repeated more often in a row than people do."""
    return collapse(text, REPETITIONS) != text


def compression_ratio(text: str) -> float:
    """Size of the text divided by its compressed size."""
    encoded = text.encode()
    return len(encoded) / len(zlib.compress(encoded))


def collapse(text: str, keep: int) -> str:
    """Leave `keep` of a phrase that is repeated more than `REPETITIONS` times in a row, and all other text."""
    words = [match.span() for match in _WORD.finditer(text)]
    if len(words) <= REPETITIONS:
        return _collapse_characters(text, keep)
    folded = [text[start:end].casefold().strip(".,!?;:\"'") for start, end in words]
    kept: list[int] = []
    at = 0
    while at < len(words):
        length, run = _repetition(folded, at)
        if run > REPETITIONS:
            kept += range(at, at + length * keep)
            at += length * run
        else:
            kept.append(at)
            at += 1
    if len(kept) == len(words):
        return _collapse_characters(text, keep)
    return " ".join(_collapse_characters(text[slice(*words[index])], keep) for index in kept)


def _repetition(words: list[str], at: int) -> tuple[int, int]:
    """The shortest phrase that begins at `at` and is repeated too often: its words, and how often; else (1, 1)."""
    for length in range(1, min(_LONGEST_PHRASE, (len(words) - at) // (REPETITIONS + 1)) + 1):
        phrase = words[at : at + length]
        run = 1
        while words[at + run * length : at + (run + 1) * length] == phrase:
            run += 1
        if run > REPETITIONS:
            return length, run
    return 1, 1


_SYLLABLES = re.compile(r"([^\W\d]{1,24}?)\1{7,}|((?:\w{1,12}[-,、，。.!?'’]+ ?){1,6}?)\2{3,}")  # noqa: RUF001 - other scripts' commas


def _collapse_characters(text: str, keep: int) -> str:
    """The same within words, and where there is no space between them; numbers keep their digits."""
    return _SYLLABLES.sub(lambda match: (match[1] or match[2]) * keep, text)
