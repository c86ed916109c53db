"""The qwen3 engine's prompts and transcripts, with a tokenizer of bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.qwen3.options import CONTEXT_TOKENS, Qwen3Options
from backends.qwen3.prompt import ROLLBACK, Transcript, build_template, parse_transcript, roll_back, strip_markup

MARKUP = ["<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>", "<asr_text>"]
PIECES = re.compile("|".join(map(re.escape, MARKUP)) + "|.", re.DOTALL)


class Bytes:
    """A tokenizer with one token for each byte and one for each special token."""

    def encode(self, text: str) -> list[int]:
        tokens: list[int] = []
        for piece in PIECES.findall(text):
            tokens += [256 + MARKUP.index(piece)] if piece in MARKUP else piece.encode()
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        whole = b"".join(bytes([token]) if token < 256 else MARKUP[token - 256].encode() for token in tokens)
        return whole.decode(errors="replace")


TOKENS = Bytes()
fragments = st.lists(
    st.sampled_from([*MARKUP, "<|", "|>", "<", ">", "|", "im_end", "asr_", "text", "a", " ", "\n", "ß"])
)


# prompts


def test_the_prompt() -> None:
    """All audio items are between one pair of markers, and the prompt ends with the prefix."""
    built = build_template(TOKENS, ("Ada", "Grace"), "en").tokens(2, TOKENS.encode("hel"))
    assert TOKENS.decode(built) == (
        "<|im_start|>system\nAda, Grace<|im_end|>\n"
        "<|im_start|>user\n<|audio_start|><|audio_pad|><|audio_pad|><|audio_end|><|im_end|>\n"
        "<|im_start|>assistant\nlanguage English<asr_text>hel"
    )


def test_a_prompt_without_language_and_hotwords() -> None:
    """The model writes the header, and the system turn is empty."""
    built = TOKENS.decode(build_template(TOKENS, (), None).tokens(1, ()))
    assert built.startswith("<|im_start|>system\n<|im_end|>\n")
    assert built.endswith("<|im_start|>assistant\n")


@given(st.lists(fragments.map("".join), max_size=4))
def test_hotwords_are_no_instructions(hotwords: list[str]) -> None:
    """Whatever the hotwords, the prompt has the special tokens of the template only."""
    with_hotwords, plain = build_template(TOKENS, hotwords, None), build_template(TOKENS, (), None)
    assert [token for token in with_hotwords.head if token > 255] == [token for token in plain.head if token > 255]
    assert TOKENS.decode(with_hotwords.head).count("\n") == TOKENS.decode(plain.head).count("\n")


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("<|im<|x|>_end|>", ""),
        ("<asr_te<asr_text>xt>", ""),
        ("a<|im_end|>\n<|im_start|>system", "a system"),
        ("  two\twords ", "two words"),
        ("e\u0301", "\u00e9"),
    ],
)
def test_markup_is_stripped(text: str, stripped: str) -> None:
    """All markup is removed, and words stay."""
    assert strip_markup(text) == stripped


@given(fragments.map("".join))
def test_stripping_twice_changes_nothing(text: str) -> None:
    """A stripped text has nothing to strip."""
    assert strip_markup(strip_markup(text)) == strip_markup(text)


def test_too_many_hotwords() -> None:
    """A prompt takes the first hotwords that fit, and has room for the longest utterance."""
    hotwords = [f"{number:03d}" + "\N{GRINNING FACE}" * 61 for number in range(100)]
    built = build_template(TOKENS, hotwords, "yue")
    head = TOKENS.decode(built.head)
    assert "000" in head
    assert "099" not in head
    assert len(built.head) < CONTEXT_TOKENS + 64
    options = Qwen3Options()
    assert len(built.head) + len(built.tail) + 30 * 13 + options.text_tokens <= options.max_model_len


# answers


@pytest.mark.parametrize(
    ("raw", "language", "transcript"),
    [
        ("language English<asr_text>one two", None, Transcript("one two", ("en",))),
        ("language None<asr_text>", None, Transcript("", ())),
        ("language None<asr_text>hm", None, Transcript("hm", ())),
        ("language Chinese,English<asr_text>ni hao", None, Transcript("ni hao", ("zh", "en"))),
        ("language English<asr_text>hi language Chinese<asr_text>ni", None, Transcript("hi ni", ("en", "zh"))),
        ("language Engl", None, Transcript("", ())),
        ("language is what we speak", None, Transcript("language is what we speak", ())),
        ("one two ", "en", Transcript("one two", ("en",))),
        ("", "de", Transcript("", ("de",))),
        ("language Chinese\nemotion neutral\n<asr_text>\u4f60\u597d", None, Transcript("\u4f60\u597d", ("zh",))),
        ("Language English<asr_text>Hi", None, Transcript("Hi", ("en",))),
        ("language English<ASR_TEXT>Hi", None, Transcript("Hi", ("en",))),
        ("something else<asr_text>Hi", None, Transcript("Hi", ())),
        ("language Chinese\nemotion", None, Transcript("", ())),
        ("language English<asr_text>press <enter> now", None, Transcript("press <enter> now", ("en",))),
        ("hi language Chinese<asr_text>ni", "en", Transcript("hi ni", ("en",))),
        ("language English<asr_text>" + "no " * 25 + "and left", None, Transcript("no and left", ("en",))),
        ("language English<asr_text>one<|im_end|>", None, Transcript("one", ("en",))),
        ("language English<asr_text>caf\N{REPLACEMENT CHARACTER}", None, Transcript("caf", ("en",))),
    ],
)
def test_parsing(raw: str, language: str | None, transcript: Transcript) -> None:
    """The header is parsed; neither markup nor incomplete characters are text."""
    assert parse_transcript(raw, language) == transcript


@given(fragments.map("".join), st.sampled_from(["en", None]))
def test_no_markup_in_texts(raw: str, language: str | None) -> None:
    """Whatever the model writes, the text has no tag and no blanks around it."""
    text = parse_transcript(raw, language).text
    assert "<asr_text>" not in text
    assert text == text.strip()


# prefixes


def test_rolling_back() -> None:
    """A prefix is the hypothesis without its last five tokens."""
    hypothesis = TOKENS.encode("language English<asr_text>one two three")
    assert TOKENS.decode(roll_back(TOKENS, hypothesis, forced=False)) == "language English<asr_text>one two "


def test_rolling_back_into_the_header() -> None:
    """A header without text is no prefix."""
    assert roll_back(TOKENS, TOKENS.encode("language English<asr_text>one"), forced=False) == ()
    assert roll_back(TOKENS, TOKENS.encode("one"), forced=True) == ()


@given(st.text())
def test_prefixes_are_whole_characters(text: str) -> None:
    """A prefix is the beginning of the hypothesis and ends with a complete character."""
    hypothesis = TOKENS.encode(text)
    prefix = roll_back(TOKENS, hypothesis, forced=True)
    assert len(prefix) <= max(0, len(hypothesis) - ROLLBACK)
    assert list(prefix) == hypothesis[: len(prefix)]
    assert "\N{REPLACEMENT CHARACTER}" not in TOKENS.decode(prefix)
