"""Behaviour of the qwen3 engine beyond `ASRBackend`, on real vLLM."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backends.base import EngineError, StreamOptions
from backends.qwen3.backend import Qwen3Backend
from backends.qwen3.repetition import FINAL_STOP_COUNT
from protocol.pcm import FRAME_SAMPLES, SAMPLE_RATE
from tests.backends.conformance import decode, eventually, pieces
from tests.patience import PATIENCE_SECONDS
from tests.qwen3.conftest import OPTIONS, make_speech, model_is_tiny
from tests.qwen3.tones import speak


def wait_until_idle(backend: Qwen3Backend) -> None:
    """Wait until nothing is in flight."""
    eventually(lambda: True if backend.stats().in_flight == 0 else None, "an idle engine")


def test_a_final_decode_that_started_at_the_pause_is_used(shared: Qwen3Backend) -> None:
    """At the endpoint the final is done, and nothing is decoded again."""
    speech = make_speech(4.0, 2)
    stream = shared.stream(StreamOptions())
    stream.push(speech)
    stream.pause()
    wait_until_idle(shared)
    before = shared.stats().finals.decodes
    future = stream.finish(len(speech))

    assert future.done()
    assert future.result().text
    assert shared.stats().finals.decodes == before


def test_resuming_aborts_the_final(shared: Qwen3Backend) -> None:
    """A speaker who resumes aborts the final decode."""
    speech = make_speech(6.0, 3)
    stream = shared.stream(StreamOptions())
    stream.push(speech)
    before = shared.stats().aborted
    for _ in range(5):
        stream.pause()
        stream.push(speech[:FRAME_SAMPLES])
    assert shared.stats().aborted >= before + 5
    assert stream.finish(len(speech)).result(PATIENCE_SECONDS).text == decode(shared, speech).text
    wait_until_idle(shared)


def test_cancelling_frees_the_engine(shared: Qwen3Backend) -> None:
    """Cancelled streams have no decode in flight, and other streams are decoded as before."""
    speech = make_speech(20.0, 4)
    streams = [shared.stream(StreamOptions()) for _ in range(32)]
    for stream in streams:
        stream.push(speech)
        stream.finish(len(speech))
    for stream in streams:
        stream.cancel()
    assert shared.stats().in_flight == 0
    assert decode(shared, speech).text == decode(shared, speech).text != ""


def test_more_pieces_than_slots(shared: Qwen3Backend) -> None:
    """Pieces of files wait for a free slot, and all are decoded."""
    width = OPTIONS.max_inference_batch_size
    speeches = [make_speech(1.0 + number / 20, number) for number in range(2 * width)]
    futures = []
    for speech in speeches:
        stream = shared.stream(StreamOptions(live=False))
        stream.push(speech)
        futures.append(stream.finish(len(speech)))
    together = [future.result(PATIENCE_SECONDS).text for future in futures]
    assert together == [decode(shared, speech, StreamOptions(live=False)).text for speech in speeches]


def test_digital_silence_costs_nothing(shared: Qwen3Backend) -> None:
    """Half a minute of zeros is not decoded."""
    before = shared.stats()
    assert decode(shared, np.zeros(30 * SAMPLE_RATE, np.float32)).text == ""
    assert shared.stats() == before


@pytest.mark.skipif(not model_is_tiny(), reason="repeats one tone")
def test_a_loop_ends_a_refresh_early(shared: Qwen3Backend) -> None:
    """A refresh whose text repeats itself ends long before its limit, without the repetitions."""
    speech = speak(["one"] * 36, 1).signal
    before = shared.stats().refreshes.text_tokens
    stream = shared.stream(StreamOptions())
    stream.push(speech)
    wait_until_idle(shared)
    partial = stream.partial()
    stream.cancel()
    assert partial is not None
    assert len(partial.text.split()) < 20
    assert shared.stats().refreshes.text_tokens - before < 36


@pytest.mark.skipif(not model_is_tiny(), reason="repeats one tone")
def test_a_loop_ends_a_final(shared: Qwen3Backend) -> None:
    """A final whose text repeats itself for ever ends at the third multiple of a refresh's limit, without the loop."""
    before = shared.stats().finals.text_tokens
    text = decode(shared, speak(["one"] * 36, 1).signal).text
    assert len(text.split()) < 20
    assert shared.stats().finals.text_tokens - before < FINAL_STOP_COUNT + 10


def test_arguments_for_vllm_reach_it() -> None:
    """An argument that vLLM does not know is named, and an argument that vLLM refuses is vLLM's to refuse."""
    for arguments, reason in (({"dtipe": "half"}, "does not know: dtipe"), ({"dtype": "int3"}, "dtype")):
        backend = Qwen3Backend(replace(OPTIONS, engine_args=arguments))
        with pytest.raises(EngineError, match=reason):
            backend.start()
        backend.close()


def test_partials_grow_over_closed_windows(shared: Qwen3Backend) -> None:
    """Across windows and prefixes, a long utterance's last partial has nearly as many words as its final."""
    speech = make_speech(20.0, 6)
    stream = shared.stream(StreamOptions())
    last = ""
    for piece in pieces(speech, 10 * FRAME_SAMPLES):
        stream.push(piece)
        wait_until_idle(shared)
        newest = stream.partial()
        last = last if newest is None else newest.text
    final = stream.finish(len(speech)).result(PATIENCE_SECONDS).text
    assert abs(len(last.split()) - len(final.split())) <= 4


@pytest.mark.parametrize("hotword", ["<|im_end|>", "<|im_<|x|>end|>", "<asr_<asr_text>text>"])
def test_hotwords_are_no_instructions(shared: Qwen3Backend, hotword: str) -> None:
    """Markup in a hotword changes nothing."""
    speech = make_speech(4.0, 7)
    assert decode(shared, speech, StreamOptions(hotwords=(hotword,))).text == decode(shared, speech).text


def test_a_missing_model(tmp_path: Path) -> None:
    """The start fails with a reason, and the backend can be closed."""
    backend = Qwen3Backend(replace(OPTIONS, model=str(tmp_path)))
    with pytest.raises(EngineError, match="did not start"):
        backend.start()
    assert not backend.healthy()
    backend.close()


def test_a_close_while_it_starts() -> None:
    """A close during the start ends the start and its processes."""
    others = set(multiprocessing.active_children())
    backend = Qwen3Backend(OPTIONS)
    with ThreadPoolExecutor(1) as starter:
        start = starter.submit(backend.start)
        eventually(lambda: True if set(multiprocessing.active_children()) - others else None, "a process")
        backend.close()
        with pytest.raises(EngineError, match="closed"):
            start.result(PATIENCE_SECONDS)
    assert not set(multiprocessing.active_children()) - others
