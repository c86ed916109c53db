"""The qwen3 engine's options, checked against one another."""

from __future__ import annotations

import pytest

from backends.base import EngineError
from backends.qwen3.options import Qwen3Options
from backends.qwen3.vllm_arguments import engine_arguments, require_known
from config import load_settings
from config_values import SettingsRefused


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


@pytest.mark.parametrize("streams", [1, 64, 256, 1024])
def test_the_encoder_cache_follows_the_sequences(streams: int) -> None:
    """The encoder cache has 20 s of audio for each sequence, and room for the longest utterance."""
    options = Qwen3Options(max_num_seqs=streams, longest_seconds=600)
    assert options.encoder_cache_size >= max(256 * streams, 13 * 600)


def test_engine_args_win() -> None:
    """STT_VLLM_ENGINE_ARGS replaces our arguments of the same name and adds others; the dtype is vLLM's choice."""
    plain = engine_arguments(Qwen3Options(), cuda=True)
    assert (plain["dtype"], plain["revision"]) == ("auto", None)
    args = {"dtype": "half", "kv_cache_dtype": "fp8"}
    merged = engine_arguments(Qwen3Options(revision="abc", engine_args=args), cuda=True)
    assert merged == plain | args | {"revision": "abc", "tokenizer_revision": "abc"}


def test_unknown_engine_args_are_named() -> None:
    """An argument that vLLM does not have is named before the engine starts."""
    with pytest.raises(EngineError, match=r"vLLM 0\.32 does not know: dtipe"):
        require_known({"dtipe": "half", "seed": 1}, ["dtype", "seed"], "0.32")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("{dtype: half}", "STT_VLLM_ENGINE_ARGS={dtype: half} cannot be used: .*it is not JSON"),
        ("[1]", "STT_VLLM_ENGINE_ARGS=.* cannot be used: .*it is not a JSON object"),
        ('{"max_num_seqs": 8}', "STT_VLLM_ENGINE_ARGS cannot have max_num_seqs: set STT_VLLM_MAX_NUM_SEQS instead"),
        ('{"additional_config": {}}', "STT_VLLM_ENGINE_ARGS cannot have additional_config"),
    ],
)
def test_engine_args_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, value: str, sentence: str) -> None:
    """A value that is no JSON object, or that replaces a setting of the server, is refused in one sentence."""
    monkeypatch.setenv("STT_BACKEND", "qwen3")
    monkeypatch.setenv("STT_VLLM_ENGINE_ARGS", value)
    with pytest.raises(SettingsRefused, match=sentence):
        load_settings()


def test_settings_reach_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """STT_VLLM_ENGINE_ARGS and STT_VLLM_REVISION become options of the engine."""
    monkeypatch.setenv("STT_VLLM_ENGINE_ARGS", '{"dtype": "half"}')
    monkeypatch.setenv("STT_VLLM_REVISION", "abc")
    options = load_settings().backends().qwen3
    assert (options.engine_args, options.revision) == ({"dtype": "half"}, "abc")
