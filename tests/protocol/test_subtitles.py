"""Subtitles of timed texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.subtitles import LINE_COLUMNS, LINES, MAX_MS, Cue, TimedText, TimedWord, cues, to_srt, to_vtt

LONG = "It was the best of times, it was the worst of times. It was the age of wisdom, it was the age of foolishness."


def _timed(text: str, step: int = 300, start: int = 0) -> TimedText:
    words = [TimedWord(word, start + step * n, start + step * (n + 1)) for n, word in enumerate(text.split())]
    return TimedText(text, start, start + step * len(words), words)


def test_a_long_text_is_cut_between_words() -> None:
    """Two lines of 42 columns, a new cue after a sentence, and times of the words."""
    assert cues([_timed(LONG)]) == [
        Cue(0, 3600, ("It was the best of times,", "it was the worst of times.")),
        Cue(3600, 7200, ("It was the age of wisdom,", "it was the age of foolishness.")),
    ]


def test_texts_without_word_times_are_spread() -> None:
    """Each word takes as long as it has characters."""
    assert cues([TimedText(LONG, 1000, 9700)])[1].start_ms == pytest.approx(1000 + 8700 * 42 / 88, abs=50)


def test_chinese_is_cut_between_characters() -> None:
    """A character takes two columns, and punctuation stays with the character before it."""
    text = "我们今天去公园玩，天气很好。" * 4  # noqa: RUF001 - Chinese
    made = cues([TimedText(text, 0, 12_000)])

    assert all(len(line) <= 21 for cue in made for line in cue.lines)
    assert "".join(line for cue in made for line in cue.lines) == text
    assert not [line for cue in made for line in cue.lines if line[0] in "，。"]  # noqa: RUF001 - Chinese


def test_a_pause_begins_a_new_cue() -> None:
    """More than 2 s between two words."""
    words = [TimedWord("One", 0, 400), TimedWord("two", 3000, 3400)]
    assert [cue.lines for cue in cues([TimedText("One two", 0, 3400, words)])] == [("One",), ("two",)]


def test_short_cues_stay_until_they_can_be_read() -> None:
    """For a second, but never into the next one."""
    made = cues([_timed("Yes.", 200), _timed("No.", 200, 600), _timed("Maybe.", 200, 5000)])
    assert [(cue.start_ms, cue.end_ms) for cue in made] == [(0, 600), (600, 1600), (5000, 5200)]


def test_formats() -> None:
    """SubRip and WebVTT, whose text has no markup."""
    made = [Cue(0, 1500, ("a < b",)), Cue(3_661_001, 3_662_000, ("c", "d"))]

    assert to_srt(made) == "1\n00:00:00,000 --> 00:00:01,500\na < b\n\n2\n01:01:01,001 --> 01:01:02,000\nc\nd\n"
    assert to_vtt(made) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\na &lt; b\n\n01:01:01.001 --> 01:01:02.000\nc\nd\n"
    )
    assert (to_srt([]), to_vtt([])) == ("", "WEBVTT\n")


WORDS = st.lists(st.text("abcdef.,!?'", min_size=1, max_size=60), min_size=1, max_size=40)


@given(WORDS, st.integers(50, 3000), st.booleans())
def test_no_word_is_cut_lost_or_late(words: list[str], step: int, timed: bool) -> None:
    """Any text comes back word by word, in lines that fit unless one word does not, in times that do not overlap."""
    text = " ".join(words)
    made = cues([_timed(text, step) if timed else TimedText(text, 0, step * len(words))])

    assert " ".join(line for cue in made for line in cue.lines).split() == words
    for cue in made:
        assert len(cue.lines) <= LINES
        assert all(len(line) <= LINE_COLUMNS or " " not in line for line in cue.lines)
        assert 0 <= cue.start_ms < cue.end_ms
        assert cue.end_ms - cue.start_ms <= max(MAX_MS, step * max(map(len, words)) + 1)
    ends = [cue.end_ms for cue in made]
    assert all(end <= following.start_ms or step < 60 for end, following in zip(ends, made[1:], strict=False))
    assert re.fullmatch(r"(\d+\n\S+ --> \S+\n(.+\n){1,2}\n?)*", to_srt(made))
