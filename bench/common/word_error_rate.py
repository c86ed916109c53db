"""Word error rate, with the same normaliser and alignment for all measurements. Pure functions.

Reference and hypothesis are normalised alike. English goes through the rules of Whisper's own evaluation
(whisper-normalizer): case, punctuation, titles, contractions, spelling variants and numbers. In other languages:
1. Unicode NFKC and case folding; typographic apostrophes become `'`.
2. A word consists of letters, digits and inner apostrophes. All other characters separate words, hyphens included.
3. Each Chinese character, Japanese kana and Korean syllable is one word: the rate is a character error rate.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from whisper_normalizer.english import EnglishTextNormalizer

from bench.common.stats import ratio_interval, rounded

_ENGLISH = EnglishTextNormalizer()
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_IDEOGRAPH = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])")
_HANGUL = re.compile(r"([\uac00-\ud7af])")


def normalise(text: str, language: str = "en") -> list[str]:
    """Return the normalised words of `text`. `language` is a primary subtag such as `en`."""
    plain = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    if language == "en":
        return str(_ENGLISH(plain)).split()
    folded = plain.casefold()
    spaced = _IDEOGRAPH.sub(r" \1 ", _THOUSANDS.sub("", folded))
    if language == "ko":
        spaced = _HANGUL.sub(r" \1 ", spaced)
    return _WORD.findall(spaced)


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Return the Levenshtein distance: the fewest substitutions, deletions and insertions between the two."""
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, word in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (expected != word))
    return row[-1]


def count_revised(before: Sequence[str], after: Sequence[str]) -> int:
    """Return the number of words of `before` after the common prefix of `before` and `after`."""
    prefix = 0
    for old, new in zip(before, after, strict=False):
        if old != new:
            break
        prefix += 1
    return len(before) - prefix


@dataclass(frozen=True, slots=True)
class Score:
    """The word errors in a recording."""

    errors: int
    words: int  # number of words in the reference


def score(reference: str, hypothesis: str, language: str = "en") -> Score:
    """Count the word errors after normalising both texts."""
    expected = normalise(reference, language)
    return Score(edit_distance(expected, normalise(hypothesis, language)), len(expected))


def rate(scores: Iterable[Score]) -> float | None:
    """Return all errors divided by all reference words; None without words."""
    pairs = [(each.errors, each.words) for each in scores]
    words = sum(count for _, count in pairs)
    return sum(errors for errors, _ in pairs) / words if words else None


def describe(scores: Iterable[Score]) -> dict[str, object]:
    """Return the rate, the counts, and the 95 % confidence interval over recordings."""
    scores = list(scores)
    errors, words = [each.errors for each in scores], [each.words for each in scores]
    interval = ratio_interval(errors, words)
    return {
        "wer": rounded(rate(scores), 4),
        "errors": sum(errors),
        "words": sum(words),
        "recordings": len(scores),
        "ci95": None if interval is None else [round(bound, 4) for bound in interval],
    }
