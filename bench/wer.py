"""Word error rate: one normaliser and one alignment for every tool. Pure.

The normaliser, applied to reference and hypothesis alike:
1. Unicode NFKC, case folded; typographic apostrophes become `'`.
2. mr -> mister, mrs -> missus, dr -> doctor.
3. Whole numbers of up to six digits are spelled in English words where the language is English
   (`42` -> `forty two`, `1,500` -> `one thousand five hundred`); years are read as numbers, not in pairs.
4. What is neither a letter, a digit nor an apostrophe within a word separates words; so does every hyphen.
5. Chinese characters and Japanese kana are one word each, so for these languages the rate is of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.stats import ratio_interval

_ABBREVIATIONS = {"mr": "mister", "mrs": "missus", "dr": "doctor"}
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_IDEOGRAPH = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])")
_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def spell(number: int) -> list[str]:
    """English words of a whole number from 0 to 999 999."""
    if number < 20:
        return [_ONES[number]]
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = spell(number % size) if number % size else []
            return [*spell(number // size), name, *rest]
    return [_TENS[number // 10]] + ([_ONES[number % 10]] if number % 10 else [])


def normalise(text: str, language: str = "en") -> list[str]:
    """Words of `text` as they are compared; `language` is a primary subtag."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    found: list[str] = _WORD.findall(_IDEOGRAPH.sub(r" \1 ", _THOUSANDS.sub("", folded)))
    words: list[str] = []
    for word in found:
        if language == "en" and word.isascii() and word.isdigit() and len(word) <= 6:
            words += spell(int(word))
        else:
            words.append(_ABBREVIATIONS.get(word, word))
    return words


def edits(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Fewest substitutions, deletions and insertions that turn one into the other (Levenshtein distance)."""
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, word in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (expected != word))
    return row[-1]


def revised(before: Sequence[str], after: Sequence[str]) -> int:
    """Words of the shown text `before` that `after` changed or moved: those beyond their common beginning."""
    same = 0
    for old, new in zip(before, after, strict=False):
        if old != new:
            break
        same += 1
    return len(before) - same


@dataclass(frozen=True, slots=True)
class Score:
    """Errors in one recording."""

    errors: int
    words: int
    """Words of the reference."""


def score(reference: str, hypothesis: str, language: str = "en") -> Score:
    """Compare two texts after normalising both."""
    expected = normalise(reference, language)
    return Score(edits(expected, normalise(hypothesis, language)), len(expected))


def rate(scores: Iterable[Score]) -> float | None:
    """Word error rate: all errors by all reference words; None without words."""
    scores = list(scores)
    words = sum(each.words for each in scores)
    return sum(each.errors for each in scores) / words if words else None


def describe(scores: Iterable[Score]) -> dict[str, object]:
    """Rate, counts, and the bootstrap 95 % confidence interval over recordings."""
    scores = list(scores)
    value = rate(scores)
    interval = ratio_interval([each.errors for each in scores], [each.words for each in scores])
    return {
        "wer": None if value is None else round(value, 4),
        "errors": sum(each.errors for each in scores),
        "words": sum(each.words for each in scores),
        "recordings": len(scores),
        "ci95": None if interval is None else [round(bound, 4) for bound in interval],
    }
