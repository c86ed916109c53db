"""How the qwen3 engine detects loops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.qwen3.repetition import MAX_COUNT, collapse_repeated_text, collapse_repeats


@given(st.lists(st.integers(0, 5), max_size=8), st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_a_loop_is_removed(before: list[int], phrase: list[int]) -> None:
    """Of a loop that the engine stopped, one repetition is left."""
    kept = collapse_repeats([*before, *phrase * MAX_COUNT])
    assert len(kept) <= len(before) + len(phrase)


@given(st.lists(st.integers(0, 3), max_size=11))
def test_short_texts_stay(tokens: list[int]) -> None:
    """A few repetitions are left alone."""
    assert collapse_repeats(tokens) == tuple(tokens)


@pytest.mark.parametrize(
    ("text", "collapsed"),
    [
        ("no " * 25 + "and then we left.", "no and then we left."),
        ("ha" * 30, "ha"),
        ("Well, " + "\u54c8" * 21 + "!", "Well, \u54c8!"),
        ("no " * 19 + "no", "no " * 19 + "no"),
        ("one two three", "one two three"),
    ],
)
def test_repetitions_in_a_text(text: str, collapsed: str) -> None:
    """More than 20 equal phrases in a row become one, and the text after them stays."""
    assert collapse_repeated_text(text) == collapsed
