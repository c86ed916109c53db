"""What the tiny checkpoint is taught with: tones, the server's own prompts around them, and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch.nn.functional import pad
from transformers.models.qwen3_asr import Qwen3ASRFeatureExtractor

from backends.qwen3.audio_items import MIN_ITEM_SAMPLES, split_into_items
from backends.qwen3.languages import NAMES
from backends.qwen3.prompt import build_template
from references.tiny_checkpoint import AUDIO, END, TAG
from tests.qwen3.tones import RATE, TONE_SECONDS, WORDS, Signal, SpeakingStyle, Speech, background_noise, random_speech

HOP = 160
"""Samples in a mel frame."""
CHUNK = 100
"""Mel frames that the encoder's convolutions see at once."""
STRIDE = 8
"""Mel frames in an audio token; the 13th of a chunk has four."""
IGNORED = -100
"""Label of a token that is not taught: what torch's cross_entropy leaves out."""
SOUNDS = 1 + 2 * len(WORDS)
"""Of an audio token: nothing, a word's tone that goes on, a word's tone that begins."""
PAST = 3
"""Words by which a place is known, beside its count: three in a row rarely come twice."""
HEARD_SECONDS = 0.1
"""A tone that is cut off is a word from here on."""
SEEDS = (1_000_000, 9_000_000)
"""Of the speech that is taught; tests use those below, the evaluation those from the end on."""

PLAIN = SpeakingStyle()
WIDE = SpeakingStyle(gap=(0.03, 0.7), lead=(0, 0.6), trail=(0, 0.6), loudness=(0.05, 0.6), noise=(0, 0.004))
"""More than tests speak, so that what they speak is not at the edge of what was taught."""

# Parts of the lessons.
SILENT = 0.06
"""Nothing is said."""
IN_PLAIN = 0.5
"""Of those in which something is said: spoken as tests do."""
CUT = 0.2
"""Likewise: the audio stops somewhere, as a refresh's does."""
FADED = 0.2
"""Likewise: up to a second of digital silence follows."""
WINDOWED = 0.5
"""Closed windows and a tail; the others are one clip."""
WITH_CONTEXT = 0.25
"""There are hotwords, which mean nothing here."""
UNTOLD = 0.3
"""The model is to name the language: English, or None where nothing is said."""
MISTOLD = 0.07
"""It is told any language, and is to write the same words."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One utterance with its prompt and answer."""

    mels: tuple[torch.Tensor, ...]
    """Of each audio item: float32 [128, frames]."""
    sounds: tuple[int, ...]
    """Of each audio token, below SOUNDS."""
    tokens: tuple[int, ...]
    """The conversation."""
    places: npt.NDArray[np.int64]
    """[tokens, 1 + PAST]: see `_places`."""
    answer: int
    """Tokens before the answer."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Lessons side by side."""

    mels: torch.Tensor
    """float32 [items, 128, frames]: zeros after an item's end; all items of the first lesson come first."""
    mel_mask: torch.Tensor
    """int64 [items, frames]: 1 where there is audio."""
    sounds: torch.Tensor
    """int64 [audio tokens of all items]."""
    tokens: torch.Tensor
    """int64 [lessons, tokens]: padded on the right, where causal attention does not look."""
    places: torch.Tensor
    """int64 [lessons, tokens, 1 + PAST]: IGNORED also in padding."""
    labels: torch.Tensor
    """int64 [lessons, tokens]: what comes after each token of the answer and the one before it; else IGNORED."""


class Spelling:
    """The vocabulary as the server's prompt wants it (`backends.qwen3.prompt.Tokenizer`)."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        """Text to ids."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Ids to text."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text


class Teacher:
    """Makes lessons; the same seed makes the same ones."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self._spelling = Spelling(tokenizer)
        (self._audio,) = self._spelling.encode(AUDIO)
        self._rng = np.random.default_rng(seed)
        self._extractor = Qwen3ASRFeatureExtractor(min_length=0)

    def batch(self, lessons: int, seconds: float) -> Batch:
        """Lessons of about `seconds` each."""
        return _side_by_side([self._lesson(seconds) for _ in range(lessons)])

    def _lesson(self, seconds: float) -> Lesson:
        speech = self._speech(seconds)
        items = split_into_items(len(speech.signal), freeze=self._happens(WINDOWED))
        signal = np.pad(speech.signal, (0, max(0, MIN_ITEM_SAMPLES - len(speech.signal))))
        mels = tuple(self._mel(signal[item.start : item.start + item.samples]) for item in items)
        sounds = [
            sound
            for item, mel in zip(items, mels, strict=True)
            for sound in _sounds(speech, item.start // HOP, mel.shape[1])
        ]
        prompt, answer = self._conversation(speech, len(sounds))
        tokens = (*prompt, *answer)
        counts = np.full(len(tokens), IGNORED)
        counts[np.array(tokens) == self._audio] = np.where(sounds, np.cumsum(np.array(sounds) > len(WORDS)), IGNORED)
        # A word is looked for from the token before it, and so is the end.
        counts[-2 - len(speech.words) : -1] = np.arange(1, len(speech.words) + 2)
        return Lesson(mels, tuple(sounds), tokens, _places(counts, speech.words), len(prompt))

    def _speech(self, seconds: float) -> Speech:
        seed = int(self._rng.integers(*SEEDS))
        if self._happens(SILENT):
            noise = self._rng.choice([0, self._rng.uniform(*WIDE.noise)])
            return Speech((), (), background_noise(seconds, seed, noise))
        speech = random_speech(seconds, seed, PLAIN if self._happens(IN_PLAIN) else WIDE)
        if self._happens(CUT):
            speech = _cut(speech, int(self._rng.integers(RATE // 2, max(RATE, len(speech.signal)))))
        if self._happens(FADED):
            speech = replace(speech, signal=np.pad(speech.signal, (0, int(self._rng.integers(RATE)))))
        return speech

    def _conversation(self, speech: Speech, audio_tokens: int) -> tuple[list[int], list[int]]:
        """Prompt and answer."""
        hotwords = [self._hotword() for _ in range(self._rng.integers(1, 4))] if self._happens(WITH_CONTEXT) else []
        language = None if self._happens(UNTOLD) else "en"
        if language and self._happens(MISTOLD):
            language = str(self._rng.choice(list(NAMES)))
        header = "" if language else f"language {'English' if speech.words else 'None'}{TAG}"
        prompt = build_template(self._spelling, hotwords, language).tokens(audio_tokens, ())
        return prompt, self._spelling.encode(f"{header}{speech.text}{END}")

    def _hotword(self) -> str:
        """One of the words or letters without a meaning."""
        letters = "".join(map(chr, self._rng.integers(ord("a"), ord("z") + 1, size=self._rng.integers(2, 9))))
        return str(self._rng.choice([*WORDS, *[letters] * 2 * len(WORDS)]))

    def _mel(self, signal: Signal) -> torch.Tensor:
        """float32 [128, frames]."""
        features = self._extractor(signal, sampling_rate=RATE, padding=False, n_window=0)
        mel: torch.Tensor = features["input_features"][0]
        return mel

    def _happens(self, probability: float) -> bool:
        return bool(self._rng.random() < probability)


def _cut(speech: Speech, end: int) -> Speech:
    """What had been said before the sample `end`."""
    starts = tuple(start for start in speech.starts if start + HEARD_SECONDS * RATE <= end)
    return Speech(speech.words[: len(starts)], starts, speech.signal[:end])


def _sounds(speech: Speech, start: int, frames: int) -> list[int]:
    """What sounds in the middle of each audio token of an item of `frames` mel frames, from the frame `start` on."""
    edges = [first for chunk in range(0, frames, CHUNK) for first in range(chunk, min(chunk + CHUNK, frames), STRIDE)]
    lengths = [min(STRIDE, CHUNK - first % CHUNK, frames - first) for first in edges]
    middles = (start + np.array(edges) + np.array(lengths) / 2) * HOP
    words = np.searchsorted(speech.starts, middles, "right") - 1
    # The word that the item before this one heard last: its last token's middle is two frames before the start.
    heard = np.searchsorted(speech.starts, (start - 2) * HOP, "right") - 1
    sounds = []
    for word, middle in zip(words, middles, strict=True):
        if word < 0 or middle >= speech.starts[word] + TONE_SECONDS * RATE:
            sounds.append(0)
        else:
            sounds.append(1 + WORDS.index(speech.words[word]) + (len(WORDS) if word != heard else 0))
            heard = word
    return sounds


def _places(counts: npt.NDArray[np.int64], words: Sequence[str]) -> npt.NDArray[np.int64]:
    """A token's place among the words: which word it belongs to (from 1 on), and the PAST ones before that.

    `counts` [tokens]: the first of these, or IGNORED. Words are their place in WORDS plus 1; 0: it was not that many.
    """
    said = np.array([0] * PAST + [1 + WORDS.index(word) for word in words])
    before = [
        np.where(counts == IGNORED, IGNORED, said[np.maximum(counts, 0) + PAST - 1 - back])
        for back in range(1, 1 + PAST)
    ]
    return np.stack([counts, *before], axis=-1)


def _side_by_side(lessons: list[Lesson]) -> Batch:
    mels = [mel for lesson in lessons for mel in lesson.mels]
    frames = -(-max(mel.shape[1] for mel in mels) // CHUNK) * CHUNK
    shape = len(lessons), max(len(lesson.tokens) for lesson in lessons)
    tokens: npt.NDArray[np.int64] = np.zeros(shape, np.int64)
    places: npt.NDArray[np.int64] = np.full((*shape, 1 + PAST), IGNORED, np.int64)
    labels: npt.NDArray[np.int64] = np.full(shape, IGNORED, np.int64)
    for row, lesson in enumerate(lessons):
        end = len(lesson.tokens)
        tokens[row, :end] = lesson.tokens
        places[row, :end] = lesson.places
        labels[row, lesson.answer - 1 : end - 1] = lesson.tokens[lesson.answer :]
    return Batch(
        mels=torch.stack([pad(mel, (0, frames - mel.shape[1])) for mel in mels]),
        mel_mask=torch.stack([(torch.arange(frames) < mel.shape[1]).long() for mel in mels]),
        sounds=torch.tensor([sound for lesson in lessons for sound in lesson.sounds]),
        tokens=torch.from_numpy(tokens),
        places=torch.from_numpy(places),
        labels=torch.from_numpy(labels),
    )
