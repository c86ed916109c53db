from __future__ import annotations

import pytest

from bench.common.stats import percentile, ratio_interval, summary
from bench.common.word_error_rate import Score, count_revised, describe, edit_distance, normalise, rate, score


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", "hello world"),
        ("Mr. Quilter's  cold-hearted", "mister quilter is cold hearted"),
        ("I\u2019m forty-two", "i am 42"),
        ("1,500 and one thousand five hundred", "1500 and 1500"),
        ("Grey, um, colours", "gray colors"),
        ("", ""),
    ],
)
def test_normaliser(text: str, words: str) -> None:
    """Case, punctuation, hyphens, titles, contractions, spelling and numerals make no difference in English."""
    assert normalise(text) == words.split()


def test_ideographs() -> None:
    """Chinese and Korean are compared by characters, and other languages by words that keep their apostrophes."""
    assert normalise("L\u2019AMI, peut-être", "fr") == ["l'ami", "peut", "être"]
    assert normalise("广州市 2号", "zh") == ["广", "州", "市", "2", "号"]
    assert normalise("안녕 3", "ko") == ["안", "녕", "3"]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [("a b c", "a b c", 0), ("a b c", "", 3), ("", "a b", 2), ("a b c", "a x c d", 2), ("a b c d", "b c d", 1)],
)
def test_edit_distance(reference: str, hypothesis: str, errors: int) -> None:
    """Substitutions, deletions and insertions count one each, and the fewest are found."""
    assert edit_distance(reference.split(), hypothesis.split()) == errors


def test_rate() -> None:
    """The rate is all errors by all words, not the mean of the recordings' rates; without words there is none."""
    assert rate([Score(1, 1), Score(0, 9)]) == pytest.approx(0.1)
    assert rate([]) is None
    assert score("Ten of clubs.", "ten clubs") == Score(1, 3)


def test_describe() -> None:
    """A description holds the counts and an interval around the rate."""
    result = describe([Score(1, 4), Score(0, 4), Score(2, 4)])
    assert (result["wer"], result["errors"], result["words"], result["recordings"]) == (0.25, 3, 12, 3)
    assert result["ci95"] == [0.0, 0.5]


@pytest.mark.parametrize(
    ("before", "after", "count"), [("a b", "a b c", 0), ("a b", "a c", 1), ("a b c", "x b c", 3), ("", "a", 0)]
)
def test_revised(before: str, after: str, count: int) -> None:
    """Words beyond the common beginning of two texts were revised."""
    assert count_revised(before.split(), after.split()) == count


def test_percentiles() -> None:
    """Percentiles interpolate, and of no values there are none."""
    assert percentile([1, 2, 3, 4], 50) == 2.5
    assert summary([]) == {"count": 0, "p50": None, "p95": None, "p99": None}
    assert summary([float(each) for each in range(101)])["p95"] == 95


def test_interval() -> None:
    """An interval of identical recordings has no width; of no words there is none."""
    assert ratio_interval([1, 1, 1], [4, 4, 4]) == (0.25, 0.25)
    assert ratio_interval([0], [0]) is None
