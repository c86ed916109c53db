"""Repetitions, runaway decodes and invented text, without a model."""

from __future__ import annotations

import pytest

from backends.whisper.hallucination import is_hallucination
from backends.whisper.repetition import MAX_TEXT_TOKENS, collapse, repeats, runs_away, token_limit

SENTENCE = "I will say nothing of my antecedents, nor of the circumstances which led me to leave my native country."


@pytest.mark.parametrize(
    ("text", "once"),
    [
        ("5 5 5 5 5 5 5 5", "5"),
        ("las las las las las arenas", "las arenas"),
        ("10 of 10 of 10 of 10 of clubs", "10 of clubs"),
        ("How old? How old. how old, How old? is it?", "How old? is it?"),
        ("Well, ha-ha-ha-ha-ha-ha, yes.", "Well, ha-ha, yes."),
        ("はい、はい、はい、はい、はい、そうです", "はい、そうです"),
        ("Hymnus ca'a'a'a'a'a'a'a'a'a finis", "Hymnus ca'a finis"),
        ("那那那那那那那那那那那那是", "那是"),
    ],
)
def test_repetitions_collapse(text: str, once: str) -> None:
    """A phrase that is repeated more than three times is left once, and what follows is kept."""
    assert repeats(text)
    assert collapse(text, 1) == once


@pytest.mark.parametrize(
    "text", ["", "No, no, no.", SENTENCE, "1000000000000", "five five five two", "that that that is is not is not"]
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    """Up to three in a row is how people speak; digits of a number are no repetition."""
    assert not repeats(text)
    assert collapse(text, 1) == text


def test_as_many_are_kept_as_asked() -> None:
    """Where a repetition may have been said, three are left of it."""
    assert collapse("no no no no no yes", 3) == "no no no yes"


def test_running_away() -> None:
    """A decode that reaches its limit, or whose text compresses too well, ran away."""
    assert not runs_away(SENTENCE, 24, 40)
    assert runs_away(SENTENCE, 40, 40)
    assert runs_away("drop the two " * 12, 36, 90)


def test_token_limits() -> None:
    """A limit grows with the audio, is higher for languages that are split finer, and is bounded."""
    assert token_limit(1.0, "en") < token_limit(2.0, "en") < token_limit(2.0, "ko")
    assert token_limit(600.0, "en") == MAX_TEXT_TOKENS


@pytest.mark.parametrize(
    ("text", "language", "no_speech_prob", "mean_log_prob"),
    [
        ("you", "en", 0.46, -0.8),
        ("Thank you.", "en", 0.53, -1.12),
        (". . .", "en", 0.1, -0.2),
        ("Okay.", "en", 0.67, -1.6),
        ("You You", "en", 0.44, -2.1),
        ("", "en", 0.0, 0.0),
        ("I don't know.", "en", 0.72, -1.47),
        ("んんんんんん", "ja", 0.65, -1.21),
        ("¡Adiós!", "es", 0.59, -1.35),
        ("Thank you. Thank you.", "en", 0.6, -0.8),
        ("Thank you, thank you.", "en", 0.6, -0.8),
        ("you…", "en", 0.46, -0.8),
        ("んんんんんん。", "ja", 0.65, -1.21),
        ("C'est ça.", "fr", 0.75, -0.9),
        ("1-2-3", "nn", 0.69, -1.356),
        ("1.0.1.1.1.1.1.1.1.1.1.1", "nn", 0.77, -0.6),
    ],
)
def test_what_noise_becomes_is_not_believed(
    text: str, language: str, no_speech_prob: float, mean_log_prob: float
) -> None:
    """Decodes of noise as they were measured."""
    assert is_hallucination(text, language, no_speech_prob, mean_log_prob)


@pytest.mark.parametrize(
    ("text", "no_speech_prob", "mean_log_prob"),
    [("Up.", 0.75, -0.78), ("Go.", 0.45, -0.66), ("Thank you.", 0.1, -0.4), ("Yes.", 0.3, -0.9), ("you", 0.2, -0.9)],
)
def test_short_words_are_believed(text: str, no_speech_prob: float, mean_log_prob: float) -> None:
    """Decodes of single words as they were measured."""
    assert not is_hallucination(text, "en", no_speech_prob, mean_log_prob)


def test_a_confident_sentence_in_another_language_is_believed() -> None:
    """Measured on a processor without VNNI, where int8 rounds differently."""
    assert not is_hallucination("그는 1위절이 피하면서 길 한 옆으로 걸어갔다.", "ko", 0.753, -0.395)
