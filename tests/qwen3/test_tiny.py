"""The checkpoint in references/ and the script that makes it belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.qwen3.conftest import TINY
from tests.qwen3.tones import WORDS

pytest.importorskip("tokenizers", reason="comes with the engine's environment")
pytest.importorskip("torch", reason="comes with the engine's environment")

from references import tiny_checkpoint

FILES = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")


def test_files_are_what_the_script_writes(tmp_path: Path) -> None:
    """The script writes the files in references/, but for the weights."""
    tiny_checkpoint.write(tmp_path, tiny_checkpoint.vocabulary(), {})

    assert {path.name for path in TINY.iterdir()} == {*FILES, "model.safetensors"}
    for name in FILES:
        assert (TINY / name).read_text() == (tmp_path / name).read_text(), name


@pytest.mark.parametrize("text", [*WORDS, *(f" {word}" for word in WORDS), "<asr_text>", "<|im_end|>"])
def test_a_word_is_a_token(text: str) -> None:
    """Each word is one token, so five tokens that a stream rolls back are five words."""
    assert len(tiny_checkpoint.vocabulary().encode(text).ids) == 1
