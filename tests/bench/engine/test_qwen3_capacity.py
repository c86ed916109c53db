"""The parts of `qwen3-capacity` that need no engine; tests/qwen3/test_bench.py runs the command."""

from __future__ import annotations

import json

import numpy as np

from backends.qwen3.prompt import ROLLBACK, build_template
from backends.qwen3.vllm_model import Clip, DecodeRequest
from bench.common.recordings import Recording, load
from bench.common.server_process import ROOT
from bench.engine.qwen3_capacity import TINY, configuration, model_folder, summarise, utterances
from bench.engine.scripted_qwen3 import Script
from protocol.pcm import SAMPLE_RATE
from tests.backends.test_qwen3_prompt import TOKENS


def asked(seconds: float, prefix: tuple[int, ...], max_tokens: int = 500) -> DecodeRequest:
    clip = Clip("a", np.zeros(round(seconds * SAMPLE_RATE / 2), np.float32))
    return DecodeRequest(build_template(TOKENS, (), None).tokens(2, prefix), (clip, clip), max_tokens, 20, 0)


def test_a_script_goes_on_where_the_prefix_ends() -> None:
    """What refreshes with a prefix say, put behind it, is what is said afresh."""
    script = Script(TOKENS)
    afresh = tuple(script.read(script.tokens_due(asked(6.0, ()))))
    prefix = afresh[:-ROLLBACK]
    later = tuple(script.read(script.tokens_due(asked(6.5, prefix))))
    assert prefix + later == tuple(script.read(script.tokens_due(asked(6.5, ()))))
    assert TOKENS.decode(afresh).startswith("language English<asr_text> one two three")


def test_a_script_is_as_long_as_speech() -> None:
    """Four tokens a second behind the header; never beyond the cap, never nothing."""
    script = Script(TOKENS)
    short, long = (script.tokens_due(asked(seconds, ())).stop for seconds in (2.0, 12.0))
    assert long - short == 40
    assert script.tokens_due(asked(12.0, (), 8)).stop == 7
    assert script.tokens_due(asked(1.0, tuple([0] * 90))).stop == 91


def test_a_shape() -> None:
    """The sizes are the true model's; all else is the tiny checkpoint's, but for its weights."""
    tiny = json.loads((TINY / "config.json").read_text())
    with model_folder("1.7b") as folder:
        made = json.loads((folder / "config.json").read_text())["thinker_config"]
        files = {file.name for file in folder.iterdir()}
    assert not folder.exists()
    assert files == {file.name for file in TINY.iterdir()} - {"model.safetensors"}
    assert made["audio_token_id"] == tiny["thinker_config"]["audio_token_id"]
    assert (made["audio_config"]["encoder_layers"], made["text_config"]["vocab_size"]) == (24, 151_936)
    assert sum(made["text_config"]["rope_scaling"]["mrope_section"]) == made["text_config"]["head_dim"] // 2
    assert configuration("tiny") == tiny


def test_utterances() -> None:
    """Each has its length, and begins with another recording."""
    clips = load(ROOT / "references", ["en"], single=True)
    made: list[Recording] = utterances(clips, [3, 6, 12])
    assert [clip.seconds for clip in made] == [3, 6, 12]
    assert len({clip.pcm[:32_000] for clip in made}) == 3


def test_decodes_are_summed_by_purpose() -> None:
    """Each purpose has its own times."""
    took = {"waiting": 0.001, "rendering": 0.002, "decoding": 0.007}
    decodes = [{"purpose": purpose, **took} for purpose in ("refresh", "batch", "refresh", "final")]
    found = summarise(decodes, seconds=2, streams=2)
    assert (found["refresh"]["ms"]["count"], found["final"]["ms"]["count"]) == (2, 1)
    assert found["refresh"]["ms"]["p50"] == 10
    assert found["refresh"]["per_stream_second"] == 0.5
    assert found["refresh"]["mean_ms"] == {"waiting": 1, "rendering": 2, "decoding": 7}
