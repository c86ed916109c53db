"""What the model reads and what it writes, as token ids. Pure, given a tokenizer.

The frame is the one it was trained with: a system turn that holds the context, a user turn that is audio, and an
assistant turn `language English<asr_text>words`, of which a prompt may hold the beginning.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from backends.qwen3 import languages
from backends.qwen3.options import CONTEXT_TOKENS

ROLLBACK = 5
"""Tokens at a hypothesis' end that more audio may change (the model's paper, and `unfixed_token_num` in its code)."""

_TAG = "<asr_text>"
_MARKUP = re.compile(r"<\|[^|]*\|>|</?[A-Za-z_]+>")
"""Tokens that mean something to the model (`<|im_end|>`, `<asr_text>`, `<think>`): in a user's words they would be
instructions."""
_HEADER = re.compile(r"\s*language (?P<names>[A-Za-z]+(?:\s*,\s*[A-Za-z]+)*)\s*$")
_BROKEN = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no character, as in the middle of one."""


class Tokenizer(Protocol):
    """The model's tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Text to ids; markup in it becomes its own ids, nothing is added around it."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Ids to text, markup written out."""
        ...


@dataclass(frozen=True, slots=True)
class Said:
    """What a hypothesis says."""

    text: str
    languages: tuple[str, ...]
    """Primary subtags, in order of appearance; empty where the model named none."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The tokens around an utterance's audio, built once."""

    head: tuple[int, ...]
    item: int
    """Placeholder for one audio item; adjacent ones read as one clip."""
    tail: tuple[int, ...]

    def tokens(self, items: int, prefix: Sequence[int]) -> list[int]:
        """The prompt for `items` audio items, whose text is to go on after `prefix`."""
        return [*self.head, *[self.item] * items, *self.tail, *prefix]


def frame(tokenizer: Tokenizer, hotwords: Sequence[str], language: str | None) -> Frame:
    """Build the frame for a speaker's hotwords and forced language (a primary subtag that the model has)."""
    context = _context(tokenizer, hotwords)
    head = f"<|im_start|>system\n{context}<|im_end|>\n<|im_start|>user\n<|audio_start|>"
    tail = "<|audio_end|><|im_end|>\n<|im_start|>assistant\n"
    if language is not None:
        tail += f"language {languages.NAMES[language]}{_TAG}"
    (item,) = tokenizer.encode("<|audio_pad|>")
    return Frame(tuple(tokenizer.encode(head)), item, tuple(tokenizer.encode(tail)))


def sanitise(text: str) -> str:
    """Take the model's markup out of a user's words, also what is left when some of it is gone.

    `<|im<|x|>_end|>` must not become `<|im_end|>`. Composed first (NFC), as the tokenizer does, so that nothing is
    composed into markup after the look; blanks and control characters become single blanks.
    """
    before = None
    while text != before:
        before = text
        text = _MARKUP.sub("", unicodedata.normalize("NFC", text))
        text = " ".join("".join(" " if unicodedata.category(sign) == "Cc" else sign for sign in text).split())
    return text


def _context(tokenizer: Tokenizer, hotwords: Sequence[str]) -> str:
    fitting, room = [], CONTEXT_TOKENS
    for word in filter(None, map(sanitise, hotwords)):
        room -= len(tokenizer.encode(f", {word}"))
        if room < 0:
            break
        fitting.append(word)
    # Again over the whole: two harmless words may make markup together.
    return sanitise(", ".join(fitting))


def parse(raw: str, language: str | None) -> Said:
    """Read what the model wrote after a prompt that forced `language`, or did not (None)."""
    if language is not None:
        return Said(_clean(raw), (language,))
    *before, last = raw.split(_TAG)
    if not before:
        # Cut off within its header, or an answer without one: the latter is all text.
        return Said("" if _HEADER.match(last) else _clean(last), ())
    texts: list[str] = []
    found: list[str] = []
    for piece in before:
        header = _HEADER.search(piece)
        if header is not None:
            found += languages.codes(header["names"])
            piece = piece[: header.start()]  # noqa: PLW2901 - the rest of it is text of the language before
        texts.append(_clean(piece))
    texts.append(_clean(last))
    return Said(" ".join(filter(None, texts)), tuple(dict.fromkeys(found)))


def _clean(text: str) -> str:
    return _MARKUP.sub("", text).rstrip(_BROKEN).strip()


def roll_back(tokenizer: Tokenizer, tokens: Sequence[int], *, forced: bool) -> tuple[int, ...]:
    """Beginning of a hypothesis that a refresh may take for granted.

    It ends at least `ROLLBACK` tokens early, never within a character, and is empty rather than a header without text
    (`forced`: the prompt holds the header).
    """
    kept = tuple(tokens[:-ROLLBACK])
    while kept and _BROKEN in tokenizer.decode(kept):
        kept = kept[:-1]
    if not forced and not tokenizer.decode(kept).partition(_TAG)[2].strip():
        return ()
    return kept
