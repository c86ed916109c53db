"""A model that has lost the audio says the same again and again: how to tell. Pure, on token ids."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_PATTERN = 20
"""Tokens in a phrase that is said again (the model's own code looks for phrases of up to 20 characters)."""

CERTAIN_COUNT = 20
"""Times in a row after which nobody speaks like that; the engine stops there, in the middle of decoding.

The threshold of the model's own code, `detect_and_fix_repetitions`.
"""

_SUSPECT_TOKENS = 12
"""Of nothing but repetition, at the end of a text that ran into its cap."""
_SUSPECT_COUNT = 3


def collapse(tokens: Sequence[int]) -> tuple[int, ...]:
    """Leave one of the phrases that a runaway text repeats at its end; a text that does not is left alone."""
    for length in range(1, LONGEST_PATTERN + 1):
        run = _run(tokens, length)
        if run >= max(_SUSPECT_TOKENS, _SUSPECT_COUNT * length):
            return tuple(tokens[: len(tokens) - run + length])
    return tuple(tokens)


def _run(tokens: Sequence[int], length: int) -> int:
    """How many tokens at the end have the period `length`."""
    run = 0
    while run + length < len(tokens) and tokens[-1 - run] == tokens[-1 - run - length]:
        run += 1
    return run + length if run else 0
