"""Word error rates of the tiny checkpoint on real vLLM, and its texts for silence.

    OMP_NUM_THREADS=1 python -m tools.evaluate_tiny_qwen3 references/tiny-qwen3-asr

Needs the environment of `make test-engine`. Each utterance is decoded as one clip; as closed windows and a tail; and as
a stream's last refresh, which was given the text of the one 0.5 s before, minus 5 tokens, from 4.5 s of audio on.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
from collections.abc import Sequence

import numpy as np

from backends.qwen3.audio_items import split_into_items
from backends.qwen3.options import Qwen3Options
from backends.qwen3.prompt import build_template, roll_back
from backends.qwen3.schedule import UNFIXED_REFRESHES, UNFIXED_SAMPLES
from backends.qwen3.vllm_model import Clip, DecodeRequest, VllmModel
from bench.common.word_error_rate import edits
from references.tiny_lessons import SEEDS
from tests.qwen3.tones import RATE, Signal, SpeakingStyle, Speech, background_noise, random_speech

LENGTHS = ((1, 2), (2, 8), (10, 20))
"""Seconds: utterances are spread between the two."""
STYLES = {"plain": SpeakingStyle(), "wide": SpeakingStyle((0.05, 0.6), (0, 0.5), (0, 0.5), (0.05, 0.6), (0, 0.003))}
CADENCE = RATE // 2
"""Samples between two refreshes."""


class Transcriber:
    """A model, and ways to decode with it."""

    def __init__(self, model: VllmModel) -> None:
        self._model = model
        self._names = map(str, itertools.count())

    def text(self, tokens: Sequence[int]) -> str:
        """Decoded."""
        return self._model.tokenizer.decode(tokens)

    async def decode(
        self,
        signal: Signal,
        *,
        prefix: Sequence[int] = (),
        freeze: bool = True,
        language: str | None = "en",
        hotwords: Sequence[str] = (),
    ) -> tuple[int, ...]:
        """The text's tokens, the prefix included."""
        name = next(self._names)
        items = split_into_items(len(signal), freeze=freeze)
        prompt = build_template(self._model.tokenizer, hotwords, language).tokens(len(items), prefix)
        clips = tuple(Clip(f"{name}:{item.key}", signal[item.start : item.stop]) for item in items)
        request = DecodeRequest(prompt, clips, max_tokens=160, max_repeats=20, priority=0)
        answer = await self._model.generate(await self._model.render(request), request, name)
        return (*prefix, *answer.tokens)

    async def clip(self, signal: Signal) -> tuple[int, ...]:
        """As one clip."""
        return await self.decode(signal, freeze=False)

    async def windows(self, signal: Signal) -> tuple[int, ...]:
        """As closed windows and a tail."""
        return await self.decode(signal)

    async def stream(self, signal: Signal) -> tuple[int, ...]:
        """What the last refresh gives."""
        tokens: tuple[int, ...] = ()
        for turn, end in enumerate(range(CADENCE, len(signal) + CADENCE, CADENCE)):
            trusted = turn >= UNFIXED_REFRESHES and end - CADENCE >= UNFIXED_SAMPLES
            prefix = roll_back(self._model.tokenizer, tokens, forced=True) if trusted else ()
            tokens = await self.decode(signal[:end], prefix=prefix)
        return tokens


async def error_rates(transcriber: Transcriber, count: int) -> None:
    """Print word error rates of `count` utterances each."""
    for style, (low, high) in itertools.product(STYLES, LENGTHS):
        speeches = [
            random_speech(seconds, SEEDS[1] + seed, STYLES[style])
            for seed, seconds in enumerate(np.linspace(low, high, count))
        ]
        for way in (transcriber.clip, transcriber.windows, transcriber.stream):
            texts = await asyncio.gather(*(way(speech.signal) for speech in speeches))
            rate = word_error_rate(speeches, [transcriber.text(tokens) for tokens in texts])
            say(f"{style}, {low} to {high} s, {way.__name__}: {rate:.4f}")


def word_error_rate(speeches: Sequence[Speech], texts: Sequence[str]) -> float:
    """Errors per word, of all together."""
    wrong = sum(edits(speech.words, text.split()) for speech, text in zip(speeches, texts, strict=True))
    return wrong / sum(len(speech.words) for speech in speeches)


async def answers(transcriber: Transcriber) -> None:
    """Print texts with other languages and hotwords, and texts of silence."""
    speech = random_speech(5, SEEDS[1])
    say(f"spoken: {speech.text}")
    for language, hotwords in ((None, ()), (None, ("nine", "café")), ("de", ()), ("en", ("one two three",))):
        tokens = await transcriber.decode(speech.signal, language=language, hotwords=hotwords)
        say(f"language {language}, hotwords {hotwords}: {transcriber.text(tokens)}")
    for seconds, noise, language in itertools.product((1, 5, 15, 30), (0, 0.0005, 0.003), (None, "en")):
        texts = transcriber.text(
            await transcriber.decode(background_noise(seconds, SEEDS[1], noise), language=language)
        )
        say(f"silence of {seconds} s, noise {noise}, language {language}: {texts!r}")


def say(line: str) -> None:
    """Print."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main() -> None:
    """Print all."""
    parser = argparse.ArgumentParser(description="Word error rates of the tiny checkpoint on real vLLM.")
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=50, help="utterances of each kind")
    arguments = parser.parse_args()
    model = VllmModel(Qwen3Options(arguments.model, gpu_memory=0.2, max_num_seqs=64))
    try:
        await error_rates(Transcriber(model), arguments.count)
        await answers(Transcriber(model))
    finally:
        model.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
