"""Decodes of every shape that occurs, before anyone waits for one: the first of each is slow on a GPU."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import numpy as np

from backends.qwen3.model import Clip, Model, Request
from backends.qwen3.options import Qwen3Options
from backends.qwen3.prompt import Frame, frame
from backends.qwen3.schedule import Purpose
from backends.qwen3.windows import layout
from protocol.pcm import SAMPLE_RATE, Signal

_LENGTHS = (1.0, 2.0, 4.0, 8.0, 8.9, 9.0, 17.5)
"""Seconds: tails from the shortest to the longest, then closed windows with a tail."""

_MOST_AT_ONCE = 64
"""Decodes in a batch; larger ones meet nothing new but the engine's own captured sizes."""

_TOKENS = 8


async def warm_up(model: Model, options: Qwen3Options) -> None:
    """Decode noise: of each length alone, then short ones in batches that double, up to the engine's sequences."""
    around = frame(model.vocabulary, (), None)
    noise = np.random.default_rng(0).normal(0, 0.01, 30 * SAMPLE_RATE).astype(np.float32)
    for seconds in _LENGTHS:
        if seconds <= options.longest_seconds:
            await _decode(model, around, noise[: round(seconds * SAMPLE_RATE)])
    width = 2
    while width <= min(_MOST_AT_ONCE, options.max_num_seqs):
        shorts = (noise[: SAMPLE_RATE + number * 160] for number in range(width))
        await asyncio.gather(*(_decode(model, around, short) for short in shorts))
        width *= 2


async def _decode(model: Model, around: Frame, audio: Signal) -> None:
    # New names each time: nothing of it is answered from a cache, and nothing of it answers for anyone.
    name = f"warm-{uuid4().hex}"
    clips = tuple(Clip(f"{name}-{item.key}", audio[item.start : item.stop]) for item in layout(len(audio)))
    request = Request(around.tokens(len(clips), ()), clips, _TOKENS, Purpose.FINAL)
    await model.generate(await model.render(request), request, name)
