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
from backends.qwen3.repetition import collapse_repeated_text
from protocol.unspaced_scripts import join_texts

ROLLBACK = 5
"""Tokens at a hypothesis' end that more audio may change (`unfixed_token_num` in the official client)."""

_TAG = "<asr_text>"
_MARKUP = re.compile(r"<\|[^|]*\|>|</?[A-Za-z_]+>")
"""Text of special tokens (`<|im_end|>`, `<asr_text>`, `<think>`): in hotwords they would be instructions."""
_TAG_PATTERN = re.compile(re.escape(_TAG), re.IGNORECASE)
_SPECIAL_TOKEN = re.compile(r"<\|[^|]*\|>")
_HEADER = re.compile(r"\s*language (?P<names>[A-Za-z]+(?:\s*,\s*[A-Za-z]+)*)\s*$", re.IGNORECASE | re.MULTILINE)
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""Character that the tokenizer writes for bytes that are not a complete character."""


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
        language: a primary subtag in `languages.NAMES` or an alias; None: the model detects the language.
    """
    context = _context(tokenizer, hotwords)
    head = f"<|im_start|>system\n{context}<|im_end|>\n<|im_start|>user\n<|audio_start|>"
    tail = "<|audio_end|><|im_end|>\n<|im_start|>assistant\n"
    if language is not None:
        tail += f"language {languages.name_of(language)}{_TAG}"
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
    """Parse what the model wrote after a prompt that forced `language`; None: the prompt forced none.

    Like the official client, everything before the first `<asr_text>` is metadata. A header before another
    `<asr_text>`, where the speaker changes the language, is removed from the text.
    """
    if language is not None:
        texts = _split_headers(raw)[1]
        return Transcript(_text(texts), (language,))
    metadata, tag, answer = _partition(raw)
    if not tag:
        # Truncated within its header, or an answer without a header.
        is_header = _HEADER.fullmatch(metadata.partition("\n")[0])
        return Transcript("" if is_header else _text([metadata]), ())
    first = languages.codes(_names(metadata))
    others, texts = _split_headers(answer)
    return Transcript(_text(texts), tuple(dict.fromkeys(first + others)))


def _split_headers(answer: str) -> tuple[tuple[str, ...], list[str]]:
    """Languages of the headers within an answer, and the texts between them."""
    *before, last = _TAG_PATTERN.split(answer)
    found: tuple[str, ...] = ()
    texts: list[str] = []
    for piece in before:
        header = _HEADER.search(piece)
        found += languages.codes(_names(piece)) if header else ()
        texts.append(piece[: header.start()] if header else piece)
    return found, [*texts, last]


def _partition(raw: str) -> tuple[str, str, str]:
    tag = _TAG_PATTERN.search(raw)
    return (raw[: tag.start()], tag[0], raw[tag.end() :]) if tag else (raw, "", "")


def _names(metadata: str) -> str:
    """The names after `language` at the end of a line."""
    header = _HEADER.search(metadata)
    return header["names"] if header else ""


def _text(pieces: Sequence[str]) -> str:
    cleaned = (_SPECIAL_TOKEN.sub("", piece).rstrip(_INCOMPLETE).strip() for piece in pieces)
    return collapse_repeated_text(join_texts(cleaned))


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
