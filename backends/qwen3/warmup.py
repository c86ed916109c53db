"""Decodes audio of every shape that occurs before the server is ready: the first decode of a shape is slow on a GPU."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import numpy as np

from backends.qwen3.audio_items import split_into_items
from backends.qwen3.options import Qwen3Options
from backends.qwen3.prompt import PromptTemplate, build_template
from backends.qwen3.repetition import MAX_COUNT
from backends.qwen3.schedule import Purpose
from backends.qwen3.vllm_model import Clip, DecodeRequest, VllmModel
from protocol.pcm import SAMPLE_RATE, Signal

_LENGTHS = (1.0, 2.0, 4.0, 8.0, 8.9, 9.0, 17.5)
"""Seconds: tails from the shortest to the longest, then closed windows with a tail."""

_MAX_BATCH = 64
"""Decodes in the largest batch; vLLM captures the graphs of larger batches itself."""

_MAX_TOKENS = 8


async def warm_up(model: VllmModel, options: Qwen3Options) -> None:
    """Decode noise on the engine's loop: each length alone, then short clips in batches of 2, 4, 8 and so on.

    Raises:
        Exception: whatever vLLM raises.
    """
    template = build_template(model.tokenizer, (), None)
    noise = np.random.default_rng(0).normal(0, 0.01, 30 * SAMPLE_RATE).astype(np.float32)
    for seconds in _LENGTHS:
        if seconds <= options.longest_seconds:
            await _decode(model, template, noise[: round(seconds * SAMPLE_RATE)])
    width = 2
    while width <= min(_MAX_BATCH, options.max_num_seqs):
        clips = (noise[: SAMPLE_RATE + number * 160] for number in range(width))
        await asyncio.gather(*(_decode(model, template, clip) for clip in clips))
        width *= 2


async def _decode(model: VllmModel, template: PromptTemplate, audio: Signal) -> None:
    # A new name each time: no cache holds this audio, and the cached audio matches no utterance.
    name = f"warm-{uuid4().hex}"
    clips = tuple(Clip(f"{name}-{item.key}", audio[item.start : item.stop]) for item in split_into_items(len(audio)))
    request = DecodeRequest(template.tokens(len(clips), ()), clips, _MAX_TOKENS, MAX_COUNT, Purpose.FINAL)
    await model.generate(await model.render(request), request, name)
