"""Training data of the tiny checkpoint: sequences of tones, in the prompts of the server, with their transcripts."""

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
from references.tiny_checkpoint import AUDIO_TOKEN, END_TOKEN, TEXT_TAG
from tests.qwen3.tones import RATE, TONE_SECONDS, WORDS, Signal, SpeakingStyle, Speech, background_noise, random_speech

FRAME_SAMPLES = 160
"""Number of samples from one mel frame to the next."""
CHUNK_FRAMES = 100
"""Number of mel frames that the encoder's convolutions process at once."""
TOKEN_FRAMES = 8
"""Number of mel frames in an audio token; the 13th token of a chunk has only four."""
IGNORE_INDEX = -100
"""Label of a token without a target: the default of `ignore_index` in torch's cross_entropy."""
SOUND_CLASSES = 1 + 2 * len(WORDS)
"""Number of classes of an audio token: silence, each word's tone that continues, and each word's tone that begins."""
PREVIOUS_WORDS = 3
"""Number of preceding words in an alignment label. Three words in a row rarely occur twice in an example."""
MIN_TONE_SECONDS = 0.1
"""A truncated tone is in the transcript if at least this much of it is left."""
TRAINING_SEEDS = (1_000_000, 9_000_000)
"""Range of the seeds of training speech. Tests use smaller seeds; the evaluation uses seeds from the end of it on."""

PLAIN_STYLE = SpeakingStyle()
WIDE_STYLE = SpeakingStyle(gap=(0.03, 0.7), lead=(0, 0.6), trail=(0, 0.6), loudness=(0.05, 0.6), noise=(0, 0.004))
"""Its ranges exceed those of the tests, so that no test is at the edge of the training distribution."""

SILENCE_PROBABILITY = 0.06
"""Probability that nothing is said."""
PLAIN_STYLE_PROBABILITY = 0.5
"""Probability that speech has the style of the tests."""
TRUNCATION_PROBABILITY = 0.2
"""Probability that speech is truncated somewhere, as a refresh truncates it."""
TRAILING_SILENCE_PROBABILITY = 0.2
"""Probability that up to a second of digital silence follows the speech."""
WINDOWS_PROBABILITY = 0.5
"""Probability that the audio is split into closed windows and a tail. Otherwise it is one clip."""
HOTWORDS_PROBABILITY = 0.25
"""Probability that the prompt has hotwords, which have no effect on the transcript."""
LANGUAGE_DETECTION_PROBABILITY = 0.3
"""Probability that the model is to name the language: English, or None without speech."""
RANDOM_LANGUAGE_PROBABILITY = 0.07
"""Probability that the prompt names a random language; the transcript is the same."""


@dataclass(frozen=True, slots=True)
class Example:
    """One utterance with its prompt and its transcript."""

    mels: tuple[torch.Tensor, ...]
    """The mel spectrum of each audio item: float32 [128, frames]."""
    sound_labels: tuple[int, ...]
    """The class of each audio token, below SOUND_CLASSES."""
    tokens: tuple[int, ...]
    """The prompt and the answer."""
    alignment_labels: npt.NDArray[np.int64]
    """The alignment of each token: [tokens, 1 + PREVIOUS_WORDS], see `_alignment_labels`."""
    prompt_length: int
    """Number of tokens in the prompt."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples, padded to the same length."""

    mels: torch.Tensor
    """float32 [items, 128, frames], padded with zeros. The items of the first example come first."""
    mel_mask: torch.Tensor
    """int64 [items, frames]: 1 where there is audio."""
    sound_labels: torch.Tensor
    """int64 [audio tokens of all items]."""
    tokens: torch.Tensor
    """int64 [examples, tokens], padded on the right, where causal attention does not look."""
    alignment_labels: torch.Tensor
    """int64 [examples, tokens, 1 + PREVIOUS_WORDS]. Padding has IGNORE_INDEX."""
    labels: torch.Tensor
    """int64 [examples, tokens]: the token that follows. It is IGNORE_INDEX unless that token is in the answer."""


class PromptTokenizer:
    """Adapts a tokenizer to the protocol `backends.qwen3.prompt.Tokenizer`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text


class BatchGenerator:
    """Generates random batches. The same seed gives the same batches."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self._tokenizer = PromptTokenizer(tokenizer)
        (self._audio_token_id,) = self._tokenizer.encode(AUDIO_TOKEN)
        self._rng = np.random.default_rng(seed)
        self._extractor = Qwen3ASRFeatureExtractor(min_length=0)

    def batch(self, size: int, seconds: float) -> Batch:
        """Return a batch of `size` examples, each about `seconds` long."""
        return _collate([self._example(seconds) for _ in range(size)])

    def _example(self, seconds: float) -> Example:
        speech = self._speech(seconds)
        items = split_into_items(len(speech.signal), freeze=self._happens(WINDOWS_PROBABILITY))
        signal = np.pad(speech.signal, (0, max(0, MIN_ITEM_SAMPLES - len(speech.signal))))
        mels = tuple(self._mel(signal[item.start : item.start + item.samples]) for item in items)
        sound_labels = [
            label
            for item, mel in zip(items, mels, strict=True)
            for label in _sound_labels(speech, item.start // FRAME_SAMPLES, mel.shape[1])
        ]
        prompt, answer = self._prompt_and_answer(speech, len(sound_labels))
        tokens = (*prompt, *answer)
        word_numbers = np.full(len(tokens), IGNORE_INDEX)
        word_numbers[np.array(tokens) == self._audio_token_id] = np.where(
            sound_labels, np.cumsum(np.array(sound_labels) > len(WORDS)), IGNORE_INDEX
        )
        # Each word, and the end, is predicted at the token before it.
        word_numbers[-2 - len(speech.words) : -1] = np.arange(1, len(speech.words) + 2)
        return Example(mels, tuple(sound_labels), tokens, _alignment_labels(word_numbers, speech.words), len(prompt))

    def _speech(self, seconds: float) -> Speech:
        seed = int(self._rng.integers(*TRAINING_SEEDS))
        if self._happens(SILENCE_PROBABILITY):
            noise = self._rng.choice([0, self._rng.uniform(*WIDE_STYLE.noise)])
            return Speech((), (), background_noise(seconds, seed, noise))
        style = PLAIN_STYLE if self._happens(PLAIN_STYLE_PROBABILITY) else WIDE_STYLE
        speech = random_speech(seconds, seed, style)
        if self._happens(TRUNCATION_PROBABILITY):
            speech = _truncate(speech, int(self._rng.integers(RATE // 2, max(RATE, len(speech.signal)))))
        if self._happens(TRAILING_SILENCE_PROBABILITY):
            speech = replace(speech, signal=np.pad(speech.signal, (0, int(self._rng.integers(RATE)))))
        return speech

    def _prompt_and_answer(self, speech: Speech, audio_tokens: int) -> tuple[list[int], list[int]]:
        hotwords = (
            [self._random_hotword() for _ in range(self._rng.integers(1, 4))]
            if self._happens(HOTWORDS_PROBABILITY)
            else []
        )
        language = None if self._happens(LANGUAGE_DETECTION_PROBABILITY) else "en"
        if language and self._happens(RANDOM_LANGUAGE_PROBABILITY):
            language = str(self._rng.choice(list(NAMES)))
        header = "" if language else f"language {'English' if speech.words else 'None'}{TEXT_TAG}"
        prompt = build_template(self._tokenizer, hotwords, language).tokens(audio_tokens, ())
        return prompt, self._tokenizer.encode(f"{header}{speech.text}{END_TOKEN}")

    def _random_hotword(self) -> str:
        """Return one of the words or a random string of letters."""
        letters = "".join(map(chr, self._rng.integers(ord("a"), ord("z") + 1, size=self._rng.integers(2, 9))))
        return str(self._rng.choice([*WORDS, *[letters] * 2 * len(WORDS)]))

    def _mel(self, signal: Signal) -> torch.Tensor:
        """Return the mel spectrum of a signal: float32 [128, frames]."""
        features = self._extractor(signal, sampling_rate=RATE, padding=False, n_window=0)
        mel: torch.Tensor = features["input_features"][0]
        return mel

    def _happens(self, probability: float) -> bool:
        return bool(self._rng.random() < probability)


def _truncate(speech: Speech, end: int) -> Speech:
    """Return the speech before the sample `end`."""
    starts = tuple(start for start in speech.starts if start + MIN_TONE_SECONDS * RATE <= end)
    return Speech(speech.words[: len(starts)], starts, speech.signal[:end])


def _sound_labels(speech: Speech, start: int, frames: int) -> list[int]:
    """Return the class of each audio token of an item, by the sound in the token's middle.

    The item has `frames` mel frames and begins at the mel frame `start` of the speech.
    """
    edges = [
        first
        for chunk in range(0, frames, CHUNK_FRAMES)
        for first in range(chunk, min(chunk + CHUNK_FRAMES, frames), TOKEN_FRAMES)
    ]
    lengths = [min(TOKEN_FRAMES, CHUNK_FRAMES - first % CHUNK_FRAMES, frames - first) for first in edges]
    middles = (start + np.array(edges) + np.array(lengths) / 2) * FRAME_SAMPLES
    words = np.searchsorted(speech.starts, middles, "right") - 1
    # The last token of the item before this one has its middle two frames before the start.
    previous = np.searchsorted(speech.starts, (start - 2) * FRAME_SAMPLES, "right") - 1
    labels = []
    for word, middle in zip(words, middles, strict=True):
        if word < 0 or middle >= speech.starts[word] + TONE_SECONDS * RATE:
            labels.append(0)
        else:
            labels.append(1 + WORDS.index(speech.words[word]) + (len(WORDS) if word != previous else 0))
            previous = word
    return labels


def _alignment_labels(word_numbers: npt.NDArray[np.int64], words: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the alignment of each token: [tokens, 1 + PREVIOUS_WORDS].

    The first label is the number of the token's word, from 1 on, as `word_numbers` has it: [tokens]. The others are the
    preceding words: their index in WORDS plus 1, or 0 before the first word. A token without a word has IGNORE_INDEX.
    """
    classes = np.array([0] * PREVIOUS_WORDS + [1 + WORDS.index(word) for word in words])
    previous = [
        np.where(
            word_numbers == IGNORE_INDEX,
            IGNORE_INDEX,
            classes[np.maximum(word_numbers, 0) + PREVIOUS_WORDS - 1 - distance],
        )
        for distance in range(1, 1 + PREVIOUS_WORDS)
    ]
    return np.stack([word_numbers, *previous], axis=-1)


def _collate(examples: list[Example]) -> Batch:
    mels = [mel for example in examples for mel in example.mels]
    frames = -(-max(mel.shape[1] for mel in mels) // CHUNK_FRAMES) * CHUNK_FRAMES
    shape = len(examples), max(len(example.tokens) for example in examples)
    tokens: npt.NDArray[np.int64] = np.zeros(shape, np.int64)
    alignment_labels: npt.NDArray[np.int64] = np.full((*shape, 1 + PREVIOUS_WORDS), IGNORE_INDEX, np.int64)
    labels: npt.NDArray[np.int64] = np.full(shape, IGNORE_INDEX, np.int64)
    for row, example in enumerate(examples):
        end = len(example.tokens)
        tokens[row, :end] = example.tokens
        alignment_labels[row, :end] = example.alignment_labels
        labels[row, example.prompt_length - 1 : end - 1] = example.tokens[example.prompt_length :]
    return Batch(
        mels=torch.stack([pad(mel, (0, frames - mel.shape[1])) for mel in mels]),
        mel_mask=torch.stack([(torch.arange(frames) < mel.shape[1]).long() for mel in mels]),
        sound_labels=torch.tensor([label for example in examples for label in example.sound_labels]),
        tokens=torch.from_numpy(tokens),
        alignment_labels=torch.from_numpy(alignment_labels),
        labels=torch.from_numpy(labels),
    )
