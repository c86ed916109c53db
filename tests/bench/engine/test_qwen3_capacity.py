"""The parts of `qwen3-capacity` that need no engine; tests/qwen3/test_bench.py runs the command."""

from __future__ import annotations

import json

import numpy as np

from backends.qwen3.prompt import ROLLBACK, build_template
from backends.qwen3.vllm_model import Clip, DecodeRequest
from bench.common.recordings import Recording, load
from bench.common.server_process import ROOT
from bench.engine.qwen3_capacity import TINY_CHECKPOINT, configuration, make_utterances, model_folder, summarise
from bench.engine.scripted_qwen3 import Script
from protocol.pcm import SAMPLE_RATE
from tests.backends.test_qwen3_prompt import TOKENS


def request(seconds: float, prefix: tuple[int, ...], max_tokens: int = 500) -> DecodeRequest:
    clip = Clip("a", np.zeros(round(seconds * SAMPLE_RATE / 2), np.float32))
    return DecodeRequest(build_template(TOKENS, (), None).tokens(2, prefix), (clip, clip), max_tokens, 20, 0)


def test_a_script_goes_on_where_the_prefix_ends() -> None:
    """A prefix and the text of a refresh with it are together the text of a refresh without a prefix."""
    script = Script(TOKENS)
    full_text = tuple(script.read(script.tokens_due(request(6.0, ()))))
    prefix = full_text[:-ROLLBACK]
    later = tuple(script.read(script.tokens_due(request(6.5, prefix))))
    assert prefix + later == tuple(script.read(script.tokens_due(request(6.5, ()))))
    assert TOKENS.decode(full_text).startswith("language English<asr_text> one two three")


def test_a_script_is_as_long_as_speech() -> None:
    """Four tokens a second behind the header; never beyond the cap, never nothing."""
    script = Script(TOKENS)
    short, long = (script.tokens_due(request(seconds, ())).stop for seconds in (2.0, 12.0))
    assert long - short == 40
    assert script.tokens_due(request(12.0, (), 8)).stop == 7
    assert script.tokens_due(request(1.0, tuple([0] * 90))).stop == 91


def test_shape() -> None:
    """The sizes are those of the real model. All else is the tiny checkpoint's, but without weights."""
    tiny = json.loads((TINY_CHECKPOINT / "config.json").read_text())
    with model_folder("1.7b") as folder:
        config = json.loads((folder / "config.json").read_text())["thinker_config"]
        files = {file.name for file in folder.iterdir()}
    assert not folder.exists()
    assert files == {file.name for file in TINY_CHECKPOINT.iterdir()} - {"model.safetensors"}
    assert config["audio_token_id"] == tiny["thinker_config"]["audio_token_id"]
    assert (config["audio_config"]["encoder_layers"], config["text_config"]["vocab_size"]) == (24, 151_936)
    assert sum(config["text_config"]["rope_scaling"]["mrope_section"]) == config["text_config"]["head_dim"] // 2
    assert configuration("tiny") == tiny


def test_utterances() -> None:
    """Each has its length, and begins with another recording."""
    clips = load(ROOT / "references", ["en"], single=True)
    utterances: list[Recording] = make_utterances(clips, [3, 6, 12])
    assert [clip.seconds for clip in utterances] == [3, 6, 12]
    assert len({clip.pcm[:32_000] for clip in utterances}) == 3


def test_decodes_are_summarised_by_purpose() -> None:
    """Each purpose has its own times."""
    timing = {"waiting": 0.001, "rendering": 0.002, "decoding": 0.007}
    decodes = [{"purpose": purpose, **timing} for purpose in ("refresh", "batch", "refresh", "final")]
    summaries = summarise(decodes, seconds=2, streams=2)
    assert (summaries["refresh"]["ms"]["count"], summaries["final"]["ms"]["count"]) == (2, 1)
    assert summaries["refresh"]["ms"]["p50"] == 10
    assert summaries["refresh"]["per_stream_second"] == 0.5
    assert summaries["refresh"]["mean_ms"] == {"waiting": 1, "rendering": 2, "decoding": 7}
