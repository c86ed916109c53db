"""Builds the prompt of a decode: hotwords and context, as if they had been said before, then the task."""

from __future__ import annotations

from faster_whisper.tokenizer import Tokenizer

from backends.whisper.model import MAX_PROMPT_TOKENS


def prompt_tokens(tokenizer: Tokenizer, hotwords: tuple[str, ...], context: str) -> list[int]:
    """Token ids before the text.

    If there are too many, the last hotwords and the beginning of the context are left out.
    """
    hints = _text(tokenizer, ", ".join(hotwords))[:MAX_PROMPT_TOKENS]
    room = MAX_PROMPT_TOKENS - len(hints)
    before = _text(tokenizer, context)[-room:] if room else []
    previous = [tokenizer.sot_prev, *before, *hints] if before or hints else []
    return [*previous, *tokenizer.sot_sequence, tokenizer.no_timestamps]


def _text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of a text without control tokens: the tokenizer would read `<|endoftext|>` in a text as one."""
    words = " ".join(text.split())
    return [token for token in tokenizer.encode(f" {words}") if token < tokenizer.eot] if words else []
