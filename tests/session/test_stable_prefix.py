"""The stable prefix: agreement of two hypotheses up to a word's edge, never retracted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session.stable_prefix import StablePrefix


def updates(*texts: str) -> list[tuple[str, int]]:
    prefix = StablePrefix()
    return [prefix.update(text) for text in texts]


def stable(*texts: str) -> str:
    """The stable beginning after the last hypothesis."""
    text, chars = updates(*texts)[-1]
    return text[:chars]


def test_one_hypothesis_promises_nothing() -> None:
    """Nothing agrees with it yet."""
    assert updates("he might even") == [("he might even", 0)]


@pytest.mark.parametrize(
    ("first", "second", "agreed"),
    [
        ("he mig", "he might", "he"),
        ("he might", "he mightily", "he"),
        ("he might", "he might even", "he might"),
        ("he might.", "he might even", "he might"),
        ("it costs 3.", "it costs 3.5", "it costs"),
        ("I don", "I don't", "I"),
        ("same", "same", "same"),
        ("a  b", "a  c", "a"),
        ("", "a", ""),
        ("a b", "c d", ""),
        ("你好世", "你好市", "你好"),
        ("今日は東京", "今日は東北", "今日は東"),
        ("안녕하세", "안녕하세요", ""),
        ("สวัสดี", "สวัสดา", "สวัส"),
        ("हिन्दी भा", "हिन्दी भाषा", "हिन्दी"),
        ("བཀྲ་ཤིས", "བཀྲ་ཤིང", "བཀྲ་ཤི"),
        ("ｱｲｳ", "ｱｲｴ", "ｱｲ"),
    ],
)
def test_agreement_ends_at_a_words_edge(first: str, second: str, agreed: str) -> None:
    """A character's edge where no spaces part words; a mark is no character of its own."""
    assert stable(first, second) == agreed


def test_what_is_stable_is_never_retracted() -> None:
    """A hypothesis that has other words there changes only what follows."""
    assert updates("he might be", "he might even", "we may even add") == [
        ("he might be", 0),
        ("he might even", len("he might")),
        ("he might even add", len("he might even")),
    ]


def test_a_shorter_hypothesis_keeps_what_is_stable() -> None:
    """An engine that takes its words back cannot take back a promise."""
    assert updates("one two", "one two", "one")[-1] == ("one two", 7)
    assert updates("one two", "one two", "")[-1] == ("one two", 7)


def test_punctuation_is_not_doubled() -> None:
    """The stable text keeps its own punctuation."""
    assert updates("yes, no", "yes, no", "yep, nay; now")[-1][0] == "yes, no; now"
    assert updates("yes, ", "yes, well", "yes; now then")[-1][0] == "yes, now then"


@pytest.mark.parametrize(
    ("stable_text", "text", "shown"),
    [
        ("-", "No, I think so", "- No, I think so"),
        ("...", "An apple a day", "... An apple a day"),
        ("♪", "- Hello there", "♪ Hello there"),
        ("「", "你好吗", "「你好吗"),
    ],
)
def test_words_are_shown_after_stable_punctuation(stable_text: str, text: str, shown: str) -> None:
    """A stable prefix without a word takes the place of none."""
    assert updates(stable_text, stable_text, text)[-1] == (shown, len(stable_text))


def test_code_points_are_counted() -> None:
    """Not bytes, and not UTF-16 units."""
    assert updates("🙂 ok so", "🙂 ok then")[-1] == ("🙂 ok then", 4)


def test_an_engine_may_promise_itself() -> None:
    """What the engine says of its own text counts in place of agreement."""
    prefix = StablePrefix()
    assert prefix.update("he might", stable_chars=2) == ("he might", 2)
    assert prefix.update("he may", stable_chars=6) == ("he may", 6)


words = st.lists(st.sampled_from(["a", "ab", "b,", "don't", "3.5", "你", "好", "ดี", " "]), max_size=8)
texts = words.map(" ".join) | words.map("".join) | st.text(max_size=20)


@given(st.lists(texts, max_size=8))
def test_every_text_begins_with_all_that_was_stable(hypotheses: list[str]) -> None:
    """Whatever an engine says."""
    prefix, promised = StablePrefix(), ""
    for hypothesis in hypotheses:
        text, chars = prefix.update(hypothesis)
        assert text.startswith(promised)
        assert chars >= len(promised)
        promised = text[:chars]


@given(st.lists(st.lists(st.sampled_from(["no", "yes,", "-"]), max_size=3), min_size=3, max_size=5))
def test_a_hypothesis_with_more_words_shows_them(hypotheses: list[list[str]]) -> None:
    """Though it contradicts the stable prefix, and though that has no word."""
    prefix, promised = StablePrefix(), ""
    for tokens in hypotheses:
        text, chars = prefix.update(" ".join(tokens))
        words, promised_words = ([each for each in those if each[0].isalpha()] for those in (tokens, promised.split()))
        if len(words) > len(promised_words):
            assert text.split()[-1] == tokens[-1]
        promised = text[:chars]
