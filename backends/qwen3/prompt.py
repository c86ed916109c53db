"""Builds the model's prompts and parses its answers. Pure, given a tokenizer.

The prompt is the one that the model was trained with: a system turn with hotwords, a user turn with audio, and an
assistant turn `language English<asr_text>words`. A prompt may contain the beginning of the assistant turn.
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
"""Tokens at a hypothesis' end that more audio may change (`unfixed_token_num` in the official client)."""

_TAG = "<asr_text>"
_MARKUP = re.compile(r"<\|[^|]*\|>|</?[A-Za-z_]+>")
"""Text of special tokens (`<|im_end|>`, `<asr_text>`, `<think>`): in hotwords they would be instructions."""
_HEADER = re.compile(r"\s*language (?P<names>[A-Za-z]+(?:\s*,\s*[A-Za-z]+)*)\s*$")
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""Stands for bytes that are no complete character."""


class Tokenizer(Protocol):
    """The model's tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text. Special tokens in the text become their own ids; none is added."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids, with the text of special tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Transcript:
    """The text of a hypothesis."""

    text: str
    languages: tuple[str, ...]
    """Primary subtags in order of appearance; empty: the model named none."""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The tokens before and after the audio items of an utterance."""

    head: tuple[int, ...]
    item: int
    """Placeholder of one audio item; the model reads adjacent items as one clip."""
    tail: tuple[int, ...]

    def tokens(self, items: int, prefix: Sequence[int]) -> list[int]:
        """The prompt for `items` audio items. The model continues the text `prefix`."""
        return [*self.head, *[self.item] * items, *self.tail, *prefix]


def build_template(tokenizer: Tokenizer, hotwords: Sequence[str], language: str | None) -> PromptTemplate:
    """Build the template for hotwords and a forced language.

    Args:
        tokenizer: the model's.
        hotwords: words to expect; those that do not fit into `CONTEXT_TOKENS` are left out.
        language: a primary subtag in `languages.NAMES`; None: the model detects the language.
    """
    context = _context(tokenizer, hotwords)
    head = f"<|im_start|>system\n{context}<|im_end|>\n<|im_start|>user\n<|audio_start|>"
    tail = "<|audio_end|><|im_end|>\n<|im_start|>assistant\n"
    if language is not None:
        tail += f"language {languages.NAMES[language]}{_TAG}"
    (item,) = tokenizer.encode("<|audio_pad|>")
    return PromptTemplate(tuple(tokenizer.encode(head)), item, tuple(tokenizer.encode(tail)))


def strip_markup(text: str) -> str:
    """Remove the text of special tokens from hotwords, and turn blanks and control characters into single blanks.

    The removal repeats, so that `<|im<|x|>_end|>` does not become `<|im_end|>`. The text is composed (NFC) first, as
    the tokenizer composes it, so that no markup arises later.
    """
    before = None
    while text != before:
        before = text
        text = _MARKUP.sub("", unicodedata.normalize("NFC", text))
        text = " ".join("".join(" " if unicodedata.category(sign) == "Cc" else sign for sign in text).split())
    return text


def _context(tokenizer: Tokenizer, hotwords: Sequence[str]) -> str:
    fitting, room = [], CONTEXT_TOKENS
    for word in filter(None, map(strip_markup, hotwords)):
        room -= len(tokenizer.encode(f", {word}"))
        if room < 0:
            break
        fitting.append(word)
    # Two words without markup can form markup when joined.
    return strip_markup(", ".join(fitting))


def parse_transcript(raw: str, language: str | None) -> Transcript:
    """Parse what the model wrote after a prompt that forced `language`; None: the prompt forced none."""
    if language is not None:
        return Transcript(_clean(raw), (language,))
    *before, last = raw.split(_TAG)
    if not before:
        # Cut off within its header, or an answer without one: the latter is all text.
        return Transcript("" if _HEADER.match(last) else _clean(last), ())
    texts: list[str] = []
    found: list[str] = []
    for piece in before:
        header = _HEADER.search(piece)
        if header is not None:
            found += languages.codes(header["names"])
            piece = piece[: header.start()]  # noqa: PLW2901 - the rest of it is text of the language before
        texts.append(_clean(piece))
    texts.append(_clean(last))
    return Transcript(" ".join(filter(None, texts)), tuple(dict.fromkeys(found)))


def _clean(text: str) -> str:
    return _MARKUP.sub("", text).rstrip(_INCOMPLETE).strip()


def roll_back(tokenizer: Tokenizer, tokens: Sequence[int], *, forced: bool) -> tuple[int, ...]:
    """The beginning of a hypothesis that the next refresh continues.

    It lacks at least `ROLLBACK` tokens and never ends within a character. A header without text is left out.

    Args:
        tokenizer: the model's.
        tokens: the hypothesis.
        forced: the prompt has the header, the hypothesis does not.
    """
    kept = tuple(tokens[:-ROLLBACK])
    while kept and _INCOMPLETE in tokenizer.decode(kept):
        kept = kept[:-1]
    if not forced and not tokenizer.decode(kept).partition(_TAG)[2].strip():
        return ()
    return kept
