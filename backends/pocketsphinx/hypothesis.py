"""What a decoder says -> results. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from backends.base import ASRResult, Word
from protocol.pcm import ms

LANGUAGE = "en"
"""The only model in the package's wheel."""

FRAME_MS = 10
"""Length of a decoder's frame (its default frate, 100 frames per second)."""

Segment = tuple[str, int, int, float]
"""Dictionary entry, first frame, last frame, posterior."""

_FILLER = re.compile(r"[<\[+]")
"""How entries that are not words begin: <s>, <sil>, [NOISE], ++breath++."""

_PRONUNCIATION = re.compile(r"\(\d+\)$")
"""The mark of a word's second and later pronunciations: `read(2)`."""


def is_word(entry: str) -> bool:
    """Whether a dictionary entry is a word, and not silence or a noise."""
    return _FILLER.match(entry) is None


def words_only(entries: Iterable[str]) -> str:
    """Dictionary entries as text: words separated by blanks, without fillers and marks."""
    return " ".join(_PRONUNCIATION.sub("", entry) for entry in entries if is_word(entry))


def partial(hypothesis: str | None, seconds: float) -> ASRResult:
    """Make a result of the streaming pass; it has no words: posteriors and times mean nothing before its end."""
    return ASRResult(words_only((hypothesis or "").split()), LANGUAGE, inference_seconds=seconds)


def final(segments: Iterable[Segment], samples: int, seconds: float) -> ASRResult:
    """Make the result of a second pass over `samples` samples."""
    spoken = [segment for segment in segments if is_word(segment[0])]
    end = ms(samples)
    words = tuple(
        Word(
            word=_PRONUNCIATION.sub("", entry),
            start_ms=min(first * FRAME_MS, end),
            end_ms=min((last + 1) * FRAME_MS, end),
            confidence=min(max(posterior, 0.0), 1.0),
        )
        for entry, first, last, posterior in spoken
    )
    return ASRResult(" ".join(word.word for word in words), LANGUAGE, words, seconds)
