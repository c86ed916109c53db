"""A qwen3 backend on a fake model, for faults that real vLLM cannot be made to have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np

from backends.qwen3.backend import Qwen3Backend
from backends.qwen3.options import Qwen3Options
from backends.qwen3.schedule import Ending, Purpose
from backends.qwen3.stats import CompletedDecode
from backends.qwen3.vllm_model import DecodeOutput, DecodeRequest, VllmModel
from protocol.pcm import SAMPLE_RATE, Signal


def noise(seconds: float) -> Signal:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)


class FakeTokenizer:
    """One token is one character; all prompts are alike."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.failures = 0

    def encode(self, text: str) -> list[int]:
        return [1] if text.startswith("<|") and text.endswith("pad|>") else [2, 3]

    def decode(self, tokens: Sequence[int]) -> str:
        if self.error is not None:
            self.failures += 1
            raise self.error
        return "language English<asr_text>" + "".join(map(chr, tokens))


class FakeModel:
    """Answers each decode with "hello" at once, unless `decode` or `render_error` says otherwise."""

    def __init__(self) -> None:
        self.dead = False
        self.tokenizer = FakeTokenizer()
        self.requests: list[DecodeRequest] = []
        """Requests that were passed to `generate`."""
        self.decode: Callable[[DecodeRequest], Awaitable[object] | None] = lambda _: None
        """Called before each answer; may raise, and may return something to await."""
        self.render_error: Exception | None = None

    def count(self, purpose: Purpose) -> int:
        return sum(request.priority == purpose for request in self.requests)

    async def render(self, request: DecodeRequest, *, whole: bool = False) -> None:
        if self.render_error is not None:
            raise self.render_error

    async def generate(self, rendered: None, request: DecodeRequest, name: str) -> DecodeOutput:
        self.requests.append(request)
        waiting = self.decode(request)
        if waiting is not None:
            await waiting
        return DecodeOutput(tuple(map(ord, "hello")), Ending.STOP, prompt_tokens=10, cached_tokens=0)

    async def discard(self, rendered: None, request: DecodeRequest, name: str) -> None:
        pass

    def shutdown(self) -> None:
        self.dead = True


def forever() -> Awaitable[bool]:
    """Something to await that never ends."""
    return asyncio.Event().wait()


@contextmanager
def running(
    options: Qwen3Options | None = None, on_completed: Callable[[CompletedDecode], None] = lambda _: None
) -> Iterator[tuple[Qwen3Backend, FakeModel]]:
    """A started backend and its model; the warm-up's requests are forgotten."""
    model = FakeModel()
    backend = Qwen3Backend(options or Qwen3Options(), lambda _: cast("VllmModel", model), on_completed)
    try:
        backend.start()
        model.requests.clear()
        yield backend, model
    finally:
        backend.close()
