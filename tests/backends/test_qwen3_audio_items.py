"""How the qwen3 engine splits an utterance into audio items."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backends.qwen3.audio_items import MIN_ITEM_SAMPLES, SNAP_SAMPLES, WINDOW_SAMPLES, refresh_end, split_into_items
from protocol.pcm import SAMPLE_RATE

CHUNK = SAMPLE_RATE // 2


@given(st.integers(1, 600 * SAMPLE_RATE))
def test_items_cover_the_audio(samples: int) -> None:
    """Items cover the audio once and in order; all but the last are windows, and the last has 1 s to 9 s."""
    items = split_into_items(samples)
    assert (items[0].start, items[-1].stop) == (0, samples)
    assert all(before.stop == after.start for before, after in pairwise(items))
    assert all(item.stop - item.start == WINDOW_SAMPLES for item in items[:-1])
    assert MIN_ITEM_SAMPLES <= items[-1].samples < WINDOW_SAMPLES + MIN_ITEM_SAMPLES


@given(st.integers(1, 60 * SAMPLE_RATE), st.integers(0, 60 * SAMPLE_RATE))
def test_closed_windows_keep_their_keys(samples: int, more: int) -> None:
    """More audio does not change closed windows."""
    assert split_into_items(samples + more)[: len(split_into_items(samples)) - 1] == split_into_items(samples)[:-1]


def test_a_refresh_at_a_window_end_is_the_window() -> None:
    """A refresh that would end up to 250 ms after a window's end stops at the window's end."""
    assert refresh_end(WINDOW_SAMPLES - CHUNK, WINDOW_SAMPLES + SNAP_SAMPLES) == WINDOW_SAMPLES
    assert refresh_end(WINDOW_SAMPLES - CHUNK, WINDOW_SAMPLES + SNAP_SAMPLES + 1) == WINDOW_SAMPLES + SNAP_SAMPLES + 1
    assert refresh_end(WINDOW_SAMPLES, WINDOW_SAMPLES + SNAP_SAMPLES) == WINDOW_SAMPLES + SNAP_SAMPLES
    assert split_into_items(WINDOW_SAMPLES)[-1] == split_into_items(WINDOW_SAMPLES + MIN_ITEM_SAMPLES)[0]
