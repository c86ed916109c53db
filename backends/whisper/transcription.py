"""Turns utterances into text: greedily for partials; with beams, and a second decode if doubtful, for finals.

Each function takes a batch. An utterance's text does not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backends.base import Task, Word
from backends.whisper.hallucination import is_hallucination
from backends.whisper.model import Array, Hypothesis, Model, Window
from backends.whisper.prompt import prompt_tokens
from backends.whisper.repetition import REPETITIONS, collapse, repeats, runs_away, token_limit
from backends.whisper.words import timed_words
from protocol.pcm import SAMPLE_RATE, Signal

DOUBTFUL_LOG_PROB = -0.5
"""Mean log-probability below which a final is decoded again on a long window: in noise that brings most of the
full window's accuracy at a fraction of its cost."""


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One span of an utterance to decode."""

    signal: Signal
    """At most 30 s."""
    language: str | None
    """The language, forced or detected before; None: detect it."""
    task: Task = "transcribe"
    hotwords: tuple[str, ...] = ()
    context: str = ""
    words: bool = False
    """Whether a final shall have words."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """The text of a span."""

    text: str
    """Empty: nothing was said, or the text is a hallucination."""
    language: str
    words: tuple[Word, ...] | None = None
    no_speech_prob: float = 0.0
    mean_log_prob: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Result of one decode of a span, before it is checked."""

    hypothesis: Hypothesis
    text: str
    language: str
    states: Array
    runaway: bool
    """Whether the decoder did not come to an end, or wrote the same again and again."""

    @property
    def hallucination(self) -> bool:
        """Whether the text was invented for noise."""
        hypothesis = self.hypothesis
        return is_hallucination(self.text, self.language, hypothesis.no_speech_prob, hypothesis.mean_log_prob)


def decode_partials(model: Model, requests: Sequence[Request]) -> list[Transcript]:
    """Hypotheses for the speech so far; empty if the decoder repeated itself."""
    decoded = decode_once(model, requests, 1, Window.SHORT)
    return [_transcript(each, "" if each.runaway or repeats(each.text) else each.text) for each in decoded]


def decode_finals(model: Model, requests: Sequence[Request], beams: int) -> list[Transcript]:
    """The final text of each span."""
    decoded = decode_once(model, requests, beams, Window.SHORT)
    doubtful = [index for index, each in enumerate(decoded) if _is_doubtful(each)]
    if doubtful:
        again = decode_once(model, [requests[index] for index in doubtful], beams, Window.LONG)
        for index, each in zip(doubtful, again, strict=True):
            decoded[index] = each
    return [_final(model, request, each) for request, each in zip(requests, decoded, strict=True)]


def _is_doubtful(decoded: Decoded) -> bool:
    if decoded.hallucination:
        return False
    return decoded.runaway or repeats(decoded.text) or decoded.hypothesis.mean_log_prob < DOUBTFUL_LOG_PROB


def _final(model: Model, request: Request, decoded: Decoded) -> Transcript:
    text = collapse(decoded.text, 1 if decoded.runaway else REPETITIONS)
    words = None
    if request.words:
        said = "" if decoded.hallucination else text
        words = timed_words(model, decoded.states, request.signal, said, decoded.language)
    return _transcript(decoded, text, None if words is None else tuple(words))


def _transcript(decoded: Decoded, text: str, words: tuple[Word, ...] | None = None) -> Transcript:
    hypothesis = decoded.hypothesis
    believed = "" if decoded.hallucination else text
    return Transcript(believed, decoded.language, words, hypothesis.no_speech_prob, hypothesis.mean_log_prob)


def decode_once(model: Model, requests: Sequence[Request], beams: int, window: Window) -> list[Decoded]:
    """Decode each span once."""
    states = model.encode([model.features(each.signal) for each in requests], window)
    languages = _languages(model, requests, states)
    prompts = [
        prompt_tokens(model.tokenizer(language, each.task), each.hotwords, each.context)
        for each, language in zip(requests, languages, strict=True)
    ]
    limits = [
        token_limit(len(each.signal) / SAMPLE_RATE, "en" if each.task == "translate" else language)
        for each, language in zip(requests, languages, strict=True)
    ]
    found: list[Decoded | None] = [None] * len(requests)
    # In one batch CTranslate2 needs prompts of equal length and windows of equal length.
    shapes = [(len(prompt), state.shape[1]) for prompt, state in zip(prompts, states, strict=True)]
    for shape in sorted(set(shapes)):
        group = [index for index, each in enumerate(shapes) if each == shape]
        hypotheses = model.generate(
            np.concatenate([states[index] for index in group]),
            [prompts[index] for index in group],
            max(limits[index] for index in group),
            beams,
        )
        for index, hypothesis in zip(group, hypotheses, strict=True):
            text = model.tokenizer(languages[index], "transcribe").decode(list(hypothesis.tokens)).strip()
            runaway = runs_away(text, len(hypothesis.tokens), limits[index])
            found[index] = Decoded(hypothesis, text, languages[index], states[index], runaway)
    return [each for each in found if each is not None]


def _languages(model: Model, requests: Sequence[Request], states: Sequence[Array]) -> list[str]:
    if not model.multilingual:
        return ["en"] * len(requests)
    return [each.language or model.detect_languages(its)[0] for each, its in zip(requests, states, strict=True)]
