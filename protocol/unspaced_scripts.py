"""Scripts that put no blanks between words: Chinese, Japanese, Thai and their relatives. Pure; any thread."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_NAMES = (
    "CJK",
    "IDEOGRAPHIC",
    "FULLWIDTH",
    "HALFWIDTH IDEOGRAPHIC",
    "HALFWIDTH KATAKANA",
    "HIRAGANA",
    "KATAKANA",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
    "TIBETAN",
    "BOPOMOFO",
    "YI ",
)
"""Beginnings of the Unicode names of such scripts' characters and punctuation. Korean does put blanks."""


def is_unspaced(character: str) -> bool:
    """Whether a character belongs to a script without blanks between words."""
    return character > "\u0dff" and unicodedata.name(character, "").startswith(_NAMES)


def join_texts(texts: Iterable[str]) -> str:
    """Join the texts of consecutive segments, with a blank only where both scripts have blanks between words.

    Empty texts are left out.
    """
    joined = ""
    for text in filter(None, texts):
        blank = " " if joined and not is_unspaced(joined[-1]) and not is_unspaced(text[0]) else ""
        joined += blank + text
    return joined
