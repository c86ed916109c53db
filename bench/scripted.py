"""A model that works as hard as one that understands, and says what a script has.

Dummy weights never end a turn and say nothing that could be read: decodes would run into their caps, be taken for
runaway, and be done again. So the engine is made to decode as many tokens as speech of that length has, whichever they
are, and their places are taken by a script: prefixes, rollback and partials then go as they do with real text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

from backends.qwen3.options import Qwen3Options
from backends.qwen3.prompt import PromptTemplate, Tokenizer, build_template
from backends.qwen3.schedule import Ending
from backends.qwen3.vllm_model import DecodeOutput, DecodeRequest, VllmModel
from protocol.pcm import SAMPLE_RATE

TOKENS_PER_SECOND = 4.0
"""Of ordinary speech: two and a half words a second, one and a half tokens each."""
_HEADER = "language English<asr_text>"
_WORDS = " one two three four five six seven eight nine ten"


@dataclass(frozen=True, slots=True)
class Part:
    """What is still to be said of an utterance: tokens of the script from `start` to before `stop`."""

    start: int
    stop: int


class Script:
    """What is said in every utterance. Without hotwords and without a forced language."""

    def __init__(self, tokenizer: Tokenizer, tokens_per_second: float = TOKENS_PER_SECOND) -> None:
        self._frame: PromptTemplate = build_template(tokenizer, (), None)
        self._header = tokenizer.encode(_HEADER)
        self._words = tokenizer.encode(_WORDS)
        self._rate = tokens_per_second

    def due(self, request: DecodeRequest) -> Part:
        """What a request's audio says beyond the text that its prompt takes for granted; at least a token."""
        tokens = list(request.tokens)
        last_item = len(tokens) - 1 - tokens[::-1].index(self._frame.item)
        start = len(tokens) - last_item - 1 - len(self._frame.tail)
        seconds = sum(len(clip.samples) for clip in request.clips) / SAMPLE_RATE
        stop = len(self._header) + round(seconds * self._rate)
        return Part(start, max(start + 1, min(stop, start + request.max_tokens - 1)))

    def read(self, part: Part) -> Sequence[int]:
        """The tokens of a part."""
        said = [*self._header, *islice(cycle(self._words), max(0, part.stop - len(self._header)))]
        return said[part.start : part.stop]


class ScriptedModel(VllmModel):
    """A `VllmModel` of dummy weights."""

    def __init__(self, options: Qwen3Options) -> None:
        """See `VllmModel`."""
        super().__init__(options)
        self._script = Script(self.tokenizer)

    async def generate(self, rendered: Any, request: DecodeRequest, name: str) -> DecodeOutput:  # noqa: ANN401 - see `VllmModel`
        """See `VllmModel`."""
        answer = await super().generate(rendered, request, name)
        return replace(answer, tokens=tuple(self._script.read(self._script.due(request))), ending=Ending.STOP)

    def _sampling(self, request: DecodeRequest) -> Any:  # noqa: ANN401 - see `VllmModel`
        parameters = super()._sampling(request)
        part = self._script.due(request)
        # The end of the turn is a token too.
        parameters.max_tokens = part.stop - part.start + 1
        parameters.ignore_eos = True
        parameters.repetition_detection = None
        return parameters
