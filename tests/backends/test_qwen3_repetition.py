"""How the qwen3 engine detects loops."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backends.qwen3.repetition import STOP_COUNT, collapse_repeats


@given(st.lists(st.integers(0, 5), max_size=8), st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_a_loop_is_removed(before: list[int], phrase: list[int]) -> None:
    """Of a loop that the engine stopped, one repetition is left."""
    kept = collapse_repeats([*before, *phrase * STOP_COUNT])
    assert len(kept) <= len(before) + len(phrase)


@given(st.lists(st.integers(0, 3), max_size=11))
def test_short_texts_stay(tokens: list[int]) -> None:
    """A few repetitions are left alone."""
    assert collapse_repeats(tokens) == tuple(tokens)
