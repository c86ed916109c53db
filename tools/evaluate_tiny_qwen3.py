"""Prints the word error rates of the tiny checkpoint on real vLLM, and its transcripts of silence.

    OMP_NUM_THREADS=1 python -m tools.evaluate_tiny_qwen3 references/tiny-qwen3-asr

It needs the environment of `make test-engine`. Each utterance is decoded in three ways: as one clip, as closed windows
and a tail, and as the last refresh of a stream. From 4.5 s of audio on, a refresh has a prefix: the text of the refresh
before it without the last 5 tokens.
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
from bench.common.word_error_rate import edit_distance
from references.tiny_training_data import TRAINING_SEEDS
from tests.qwen3.tones import RATE, Signal, SpeakingStyle, Speech, background_noise, random_speech

LENGTH_RANGES = ((1, 2), (2, 8), (10, 20))
"""Shortest and longest utterance in seconds; the others are spread evenly between them."""
STYLES = {"plain": SpeakingStyle(), "wide": SpeakingStyle((0.05, 0.6), (0, 0.5), (0, 0.5), (0.05, 0.6), (0, 0.003))}
REFRESH_SAMPLES = RATE // 2
"""Number of samples between two refreshes."""


class Transcriber:
    """Transcribes with a model, in several ways."""

    def __init__(self, model: VllmModel) -> None:
        self._model = model
        self._names = map(str, itertools.count())

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
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
        """Return the tokens of the transcript, with the prefix."""
        name = next(self._names)
        items = split_into_items(len(signal), freeze=freeze)
        prompt = build_template(self._model.tokenizer, hotwords, language).tokens(len(items), prefix)
        clips = tuple(Clip(f"{name}:{item.key}", signal[item.start : item.stop]) for item in items)
        request = DecodeRequest(prompt, clips, max_tokens=160, max_repeats=20, priority=0)
        answer = await self._model.generate(await self._model.render(request), request, name)
        return (*prefix, *answer.tokens)

    async def clip(self, signal: Signal) -> tuple[int, ...]:
        """Decode a signal as one clip."""
        return await self.decode(signal, freeze=False)

    async def windows(self, signal: Signal) -> tuple[int, ...]:
        """Decode a signal as closed windows and a tail."""
        return await self.decode(signal)

    async def stream(self, signal: Signal) -> tuple[int, ...]:
        """Decode a signal as a stream, and return the tokens of the last refresh."""
        tokens: tuple[int, ...] = ()
        for refresh, end in enumerate(range(REFRESH_SAMPLES, len(signal) + REFRESH_SAMPLES, REFRESH_SAMPLES)):
            has_prefix = refresh >= UNFIXED_REFRESHES and end - REFRESH_SAMPLES >= UNFIXED_SAMPLES
            prefix = roll_back(self._model.tokenizer, tokens, forced=True) if has_prefix else ()
            tokens = await self.decode(signal[:end], prefix=prefix)
        return tokens


async def print_error_rates(transcriber: Transcriber, count: int) -> None:
    """Print the word error rate of `count` utterances for each style, length and way to decode."""
    for style, (low, high) in itertools.product(STYLES, LENGTH_RANGES):
        speeches = [
            random_speech(seconds, TRAINING_SEEDS[1] + seed, STYLES[style])
            for seed, seconds in enumerate(np.linspace(low, high, count))
        ]
        for decode in (transcriber.clip, transcriber.windows, transcriber.stream):
            texts = await asyncio.gather(*(decode(speech.signal) for speech in speeches))
            rate = word_error_rate(speeches, [transcriber.text(tokens) for tokens in texts])
            log(f"{style}, {low} to {high} s, {decode.__name__}: {rate:.4f}")


def word_error_rate(speeches: Sequence[Speech], texts: Sequence[str]) -> float:
    """Return the number of errors in all texts, divided by the number of words."""
    errors = sum(edit_distance(speech.words, text.split()) for speech, text in zip(speeches, texts, strict=True))
    return errors / sum(len(speech.words) for speech in speeches)


async def print_transcripts(transcriber: Transcriber) -> None:
    """Print transcripts with other languages and hotwords, and transcripts of silence."""
    speech = random_speech(5, TRAINING_SEEDS[1])
    log(f"spoken: {speech.text}")
    for language, hotwords in ((None, ()), (None, ("nine", "café")), ("de", ()), ("en", ("one two three",))):
        tokens = await transcriber.decode(speech.signal, language=language, hotwords=hotwords)
        log(f"language {language}, hotwords {hotwords}: {transcriber.text(tokens)}")
    for seconds, noise, language in itertools.product((1, 5, 15, 30), (0, 0.0005, 0.003), (None, "en")):
        texts = transcriber.text(
            await transcriber.decode(background_noise(seconds, TRAINING_SEEDS[1], noise), language=language)
        )
        log(f"silence of {seconds} s, noise {noise}, language {language}: {texts!r}")


def log(line: str) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main() -> None:
    """Evaluate the model that the command line names."""
    parser = argparse.ArgumentParser(description="Word error rates of the tiny checkpoint on real vLLM.")
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=50, help="number of utterances of each kind")
    arguments = parser.parse_args()
    model = VllmModel(Qwen3Options(arguments.model, gpu_memory=0.2, max_num_seqs=64))
    try:
        await print_error_rates(Transcriber(model), arguments.count)
        await print_transcripts(Transcriber(model))
    finally:
        model.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
