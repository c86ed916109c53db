"""The qwen3 engine's options, checked against one another."""

from __future__ import annotations

import pytest

from backends.qwen3.options import Qwen3Options
from config import SettingsRefused, load_settings


@pytest.mark.parametrize("seconds", [1.0, 30.0, 120.0, 600.0])
def test_the_longest_text_follows_the_longest_utterance(seconds: float) -> None:
    """Without STT_VLLM_MAX_TOKENS, the densest script's text of the longest utterance fits, and so does the prompt."""
    options = Qwen3Options(longest_seconds=seconds)
    assert options.text_tokens > 21 * seconds
    assert options.max_model_len > options.text_tokens + 13 * seconds


def test_a_longest_text_that_is_too_short_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """512 tokens hold 30 s of text; for 60 s they are refused in a sentence with the least value."""
    assert Qwen3Options(max_tokens=512, longest_seconds=30).conflict() is None
    monkeypatch.setenv("STT_BACKEND", "qwen3")
    monkeypatch.setenv("STT_VLLM_MAX_TOKENS", "512")
    monkeypatch.setenv("STT_VAD_MAX_SEGMENT_MS", "60000")
    with pytest.raises(SettingsRefused, match="STT_VLLM_MAX_TOKENS=512 cuts off the text of 60 s: set at least 960,"):
        load_settings()
