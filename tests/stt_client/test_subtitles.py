"""Subtitles fit on a screen, and are cut between words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt_client import Segment, Transcript, Word
from stt_client.cli.formats import Format, formatted
from stt_client.cli.subtitles import LINE_CHARACTERS, cues

LETTERS = st.text("abcdefgh.,!?äß", min_size=1, max_size=20)


def spoken(words: list[str], *, timed: bool, gap_ms: int = 0) -> Segment:
    """A segment in which each word takes 300 ms."""
    step = 300 + gap_ms
    times = tuple(
        Word(word=f" {word}", start_ms=1000 + i * step, end_ms=1300 + i * step, confidence=1)
        for i, word in enumerate(words)
    )
    return Segment(start_ms=1000, end_ms=1000 + step * len(words), text=" ".join(words), words=times if timed else None)


@given(st.lists(LETTERS, min_size=1, max_size=80), st.booleans())
def test_subtitles_have_every_word_whole_and_in_order(words: list[str], timed: bool) -> None:
    """Every word stands whole on one line; no line is longer than 42 characters, no subtitle has more than two."""
    found = cues([spoken(words, timed=timed)])

    assert [word for cue in found for line in cue.lines for word in line.split()] == words
    assert all(len(line) <= LINE_CHARACTERS for cue in found for line in cue.lines)
    assert all(1 <= len(cue.lines) <= 2 for cue in found)


@given(st.lists(LETTERS, min_size=1, max_size=80), st.booleans())
def test_subtitles_follow_one_another(words: list[str], timed: bool) -> None:
    """Times never run backwards, and stay within the segment."""
    found = cues([spoken(words, timed=timed)])
    times = [time for cue in found for time in (cue.start_ms, cue.end_ms)]

    assert times == sorted(times)
    assert times[0] == 1000
    assert times[-1] == 1000 + 300 * len(words)


def test_a_subtitle_is_timed_by_its_words() -> None:
    """Where the engine timed the words, a subtitle begins with its first word and ends with its last."""
    words = ["one"] * 30
    first, *_ = cues([spoken(words, timed=True)])
    count = sum(len(line.split()) for line in first.lines)

    assert (first.start_ms, first.end_ms) == (1000, 1000 + 300 * count)


def test_a_pause_begins_a_new_subtitle() -> None:
    """Words a second apart are not shown together."""
    assert [cue.lines for cue in cues([spoken(["well", "then"], timed=True, gap_ms=1000)])] == [("well",), ("then",)]


def test_a_word_longer_than_a_line_stays_whole() -> None:
    """No word is ever cut, however long."""
    word = "Donaudampfschifffahrtsgesellschaftskapitänsmütze"

    assert cues([spoken(["die", word], timed=False)])[0].lines == ("die", word)


@pytest.mark.parametrize("text", ["今日はとても良い天気ですね。" * 6, "สวัสดีครับวันนี้อากาศดีมาก" * 4])
def test_scripts_without_blanks_are_wrapped_too(text: str) -> None:
    """Text without blanks is cut between characters, and nothing of it is lost."""
    segment = Segment(start_ms=0, end_ms=10_000, text=text)
    found = cues([segment])

    assert "".join(line for cue in found for line in cue.lines) == text
    assert all(len(line) <= LINE_CHARACTERS + 1 for cue in found for line in cue.lines)
    assert not [line for cue in found for line in cue.lines if line.startswith("。")]


def test_the_formats_are_those_that_players_read() -> None:
    """SRT counts and has commas, WebVTT has its heading and escapes, TSV has ms."""
    transcript = Transcript(
        text="a < b", duration_ms=4_000_000, segments=(Segment(start_ms=3_661_002, end_ms=3_662_003, text="a < b"),)
    )

    assert formatted(transcript, Format.SRT) == "1\n01:01:01,002 --> 01:01:02,003\na < b\n"
    assert formatted(transcript, Format.VTT) == "WEBVTT\n\n01:01:01.002 --> 01:01:02.003\na &lt; b\n"
    assert formatted(transcript, Format.TSV) == "start\tend\ttext\n3661002\t3662003\ta < b\n"
    assert formatted(transcript, Format.TEXT) == "a < b\n"
    assert Transcript.model_validate_json(formatted(transcript, Format.JSON)) == transcript
