"""The server for `qwen3-capacity`: its qwen3 model has random weights, and its texts come from a script.

Random weights never end a text: each decode would run into its token limit, count as runaway and be repeated. So the
engine decodes exactly as many tokens as speech of that length has, and the script replaces them. Prefixes, rollback and
partials then work as with real text.

`uvicorn --factory bench.engine.scripted_qwen3:build` runs it. GET /bench/decodes returns the durations of its decodes,
and the times at which they ended, in monotonic seconds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import cycle, islice
from typing import Any

from fastapi import FastAPI

from app import create_app
from backends import registry
from backends.qwen3 import preflight
from backends.qwen3.backend import Qwen3Backend
from backends.qwen3.options import Qwen3Options
from backends.qwen3.prompt import PromptTemplate, Tokenizer, build_template
from backends.qwen3.schedule import Ending
from backends.qwen3.stats import CompletedDecode
from backends.qwen3.vllm_model import DecodeOutput, DecodeRequest, VllmModel
from protocol.pcm import SAMPLE_RATE

TOKENS_PER_SECOND = 4.0  # ordinary speech: two and a half words a second, one and a half tokens a word
_HEADER = "language English<asr_text>"
_WORDS = " one two three four five six seven eight nine ten"


class Script:
    """The text of every utterance. Its prompts have neither hotwords nor a forced language."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._template: PromptTemplate = build_template(tokenizer, (), None)
        self._header = tokenizer.encode(_HEADER)
        self._words = tokenizer.encode(_WORDS)

    def tokens_due(self, request: DecodeRequest) -> range:
        """Return the script positions of the audio that follow the text in the request's prompt; at least one."""
        tokens = list(request.tokens)
        last_item = len(tokens) - 1 - tokens[::-1].index(self._template.item)
        start = len(tokens) - last_item - 1 - len(self._template.tail)
        seconds = sum(len(clip.samples) for clip in request.clips) / SAMPLE_RATE
        stop = len(self._header) + round(seconds * TOKENS_PER_SECOND)
        return range(start, max(start + 1, min(stop, start + request.max_tokens - 1)))

    def read(self, positions: range) -> Sequence[int]:
        """Return the token ids at these positions."""
        tokens = [*self._header, *islice(cycle(self._words), max(0, positions.stop - len(self._header)))]
        return tokens[positions.start : positions.stop]


class ScriptedModel(VllmModel):
    """A `VllmModel` whose outputs are replaced by the script."""

    def __init__(self, options: Qwen3Options) -> None:
        """See `VllmModel`."""
        super().__init__(options)
        self._script = Script(self.tokenizer)

    async def generate(self, rendered: Any, request: DecodeRequest, name: str) -> DecodeOutput:  # noqa: ANN401 - see `VllmModel`
        """See `VllmModel`."""
        output = await super().generate(rendered, request, name)
        return replace(output, tokens=tuple(self._script.read(self._script.tokens_due(request))), ending=Ending.STOP)

    def _sampling(self, request: DecodeRequest) -> Any:  # noqa: ANN401 - see `VllmModel`
        parameters = super()._sampling(request)
        positions = self._script.tokens_due(request)
        parameters.max_tokens = len(positions) + 1  # one token is the end of the text
        parameters.ignore_eos = True
        parameters.repetition_detection = None
        return parameters


def build() -> FastAPI:
    """Build the application. It must be alone in its process, because it replaces the registered engines."""
    decodes: list[dict[str, object]] = []  # appended to by the engine's thread

    def record(decode: CompletedDecode) -> None:
        decodes.append({"ended": time.monotonic(), "purpose": decode.purpose.name.lower()} | asdict(decode.timing))

    async def all_decodes() -> list[dict[str, object]]:
        return decodes[:]

    def backend(options: registry.BackendOptions) -> Qwen3Backend:
        return Qwen3Backend(replace(options.qwen3, load_format="dummy"), ScriptedModel, record)

    registry.BACKENDS = {"qwen3": registry.BackendSpec(backend, preflight.refusal)}
    app = create_app()
    app.add_api_route("/bench/decodes", all_decodes)
    return app
