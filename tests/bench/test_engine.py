"""The parts of `bench.engine` that need no engine; tests/qwen3/test_bench.py runs the command."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from backends.qwen3.prompt import ROLLBACK, build_template
from backends.qwen3.vllm_model import Clip, DecodeRequest
from bench import shape
from bench.audio import Clip as Recording
from bench.audio import load
from bench.engine import Looks, utterances
from bench.notes import cpu_by_group
from bench.scripted import Script
from bench.server import ROOT, Server
from protocol.pcm import SAMPLE_RATE
from tests.backends.test_qwen3_prompt import TOKENS


def asked(seconds: float, prefix: tuple[int, ...], max_tokens: int = 500) -> DecodeRequest:
    clip = Clip("a", np.zeros(round(seconds * SAMPLE_RATE / 2), np.float32))
    return DecodeRequest(build_template(TOKENS, (), None).tokens(2, prefix), (clip, clip), max_tokens, 0)


def test_a_script_goes_on_where_the_prefix_ends() -> None:
    """What refreshes with a prefix say, put behind it, is what is said afresh."""
    script = Script(TOKENS)
    afresh = tuple(script.read(script.due(asked(6.0, ()))))
    prefix = afresh[:-ROLLBACK]
    later = tuple(script.read(script.due(asked(6.5, prefix))))
    assert prefix + later == tuple(script.read(script.due(asked(6.5, ()))))
    assert TOKENS.decode(afresh).startswith("language English<asr_text> one two three")


def test_a_script_is_as_long_as_speech() -> None:
    """Four tokens a second behind the header; never beyond the cap, never nothing."""
    script = Script(TOKENS)
    short, long = (script.due(asked(seconds, ())).stop for seconds in (2.0, 12.0))
    assert long - short == 40
    assert script.due(asked(12.0, (), 8)).stop == 7
    assert script.due(asked(1.0, tuple([0] * 90))).stop == 91


def test_a_shape(tmp_path: Path) -> None:
    """The sizes are the true model's; all else is the tiny checkpoint's."""
    tiny = {"thinker_config": {"audio_token_id": 334, "audio_config": {"n_window": 50}, "text_config": {"x": 1}}}
    (tmp_path / "config.json").write_text(json.dumps(tiny))
    (tmp_path / "tokenizer.json").write_text("{}")
    made = shape.configuration("1.7b", tmp_path)["thinker_config"]
    assert (made["audio_token_id"], made["audio_config"]["n_window"], made["text_config"]["x"]) == (334, 50, 1)
    assert (made["audio_config"]["encoder_layers"], made["text_config"]["vocab_size"]) == (24, 151_936)
    assert sum(made["text_config"]["rope_scaling"]["mrope_section"]) == made["text_config"]["head_dim"] // 2
    assert shape.configuration("tiny", tmp_path) == tiny
    with shape.model_of("1.7b", tmp_path) as folder:
        assert {file.name for file in folder.iterdir()} == {"config.json", "tokenizer.json"}
    assert not folder.exists()


def test_a_shape_without_a_tiny_checkpoint(tmp_path: Path) -> None:
    """Says what is missing."""
    with pytest.raises(SystemExit, match="--tiny"), shape.model_of("1.7b", tmp_path):
        pass


def test_utterances() -> None:
    """Each has its length, and begins with another recording."""
    clips = load(ROOT / "references", "en", single=True)
    made: list[Recording] = utterances(clips, [3, 6, 12])
    assert [clip.seconds for clip in made] == [3, 6, 12]
    assert len({clip.pcm[:32_000] for clip in made}) == 3


def test_what_was_before_the_first_look_does_not_count() -> None:
    """Decodes, CPU and late naps are those between the first look and the last."""

    def look(time: float, cpu: float, *purposes: str) -> dict[str, object]:
        took = {"waiting": 0.001, "rendering": 0.002, "decoding": 0.007}
        tokens = {"prompt_tokens": 100, "cached_tokens": 40, "text_tokens": 10}
        decodes = [{"purpose": purpose, **took, **tokens} for purpose in purposes]
        return {"time": time, "cpu": {"event_loop": cpu}, "event_loop_late_ms": [time], "decodes": decodes}

    looks = Looks(cast("Server", None), 0.1)
    looks.taken = [look(10, 1, "final"), look(11, 1.5, "refresh", "batch"), look(12, 2, "refresh", "final")]
    looks.cpu = [5.0, 7.0, 9.0]
    report = looks.report(streams=2)
    assert (report["refresh_ms"]["count"], report["final_decode_ms"]["count"]) == (2, 1)
    assert report["refresh_ms"]["p50"] == 10
    assert report["refreshes_per_stream_second"] == 0.5
    assert report["where"]["refresh_ms"] == {"waiting": 1, "rendering": 2, "engine": 7}
    assert report["where"]["cores"] == {"event_loop": 0.5, "engine_processes": 1.5}
    assert report["where"]["event_loop_late_ms"]["count"] == 2
    assert report["prompt_tokens_computed_per_second"] == 120


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the bench tools need Linux")
def test_cpu_by_group() -> None:
    """All of this process's time is in a group."""
    groups = cpu_by_group()
    assert set(groups) == {"event_loop", "engine_loop", "rendering", "sessions", "others"}
    assert groups["event_loop"] > 0
