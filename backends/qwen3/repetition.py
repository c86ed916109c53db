"""Detects the loops of a model that lost track of the audio. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_PATTERN_TOKENS = 20
"""Longest repeated phrase (the official client looks for phrases of up to 20 characters)."""

MAX_COUNT = 20
"""Most repetitions in a row that people say: the threshold of the official client's `detect_and_fix_repetitions`.

The engine ends a refresh here.
"""

FINAL_STOP_COUNT = 3 * MAX_COUNT
"""Repetitions in a row at which the engine ends a final. A shorter loop may have text after it."""

_LOOP = re.compile(rf"(.{{1,20}}?)\1{{{MAX_COUNT},}}", re.DOTALL)
"""A phrase of up to 20 characters, as in the official client, and more than `MAX_COUNT` of it in a row."""

_MIN_LOOP_TOKENS = 12
"""Least length of a loop at the end of a text that was cut off at its token limit."""
_MIN_LOOP_COUNT = 3
"""Least number of repetitions in such a loop."""


def collapse_repeats(tokens: Sequence[int]) -> tuple[int, ...]:
    """Remove a loop at the end of a text that was cut off, but for its first repetition."""
    for length in range(1, MAX_PATTERN_TOKENS + 1):
        run = _periodic_tail(tokens, length)
        if run >= max(_MIN_LOOP_TOKENS, _MIN_LOOP_COUNT * length):
            return tuple(tokens[: len(tokens) - run + length])
    return tuple(tokens)


def collapse_repeated_text(text: str) -> str:
    """Leave one of more than `MAX_COUNT` equal phrases in a row, anywhere in the text, and keep what follows."""
    return _LOOP.sub(r"\1", text)


def _periodic_tail(tokens: Sequence[int], length: int) -> int:
    """How many tokens at the end repeat with the period `length`."""
    run = 0
    while run + length < len(tokens) and tokens[-1 - run] == tokens[-1 - run - length]:
        run += 1
    return run + length if run else 0
