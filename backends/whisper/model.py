"""A loaded Whisper model: CTranslate2's calls on numpy arrays. Every method may be called from any thread.

Only the speech is encoded, not always 30 s. Encoder states of silence, computed once, complete the decoder's window:
without silence after the speech the decoder repeats itself.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt
import tokenizers
from faster_whisper.feature_extractor import FeatureExtractor
from faster_whisper.tokenizer import Tokenizer

from backends.base import EngineError, Task
from backends.whisper.options import Device
from protocol.pcm import SAMPLE_RATE, Signal

Array = npt.NDArray[Any]
"""Encoder states: [batch, positions, d_model], float32, or float16 on a GPU. Spectra: [mels, frames], float32."""

FRAMES_PER_SECOND = 100
"""Frames per second of the log-mel spectrogram. The encoder halves them."""
WINDOW_FRAMES = 30 * FRAMES_PER_SECOND
"""The window that Whisper was trained on."""
TRAILING_FRAMES = FRAMES_PER_SECOND
"""Frames of silence encoded after the speech: 1 s. With 0.2 s, 8 of 176 partials repeated themselves, with 1 s none."""
LEAST_FRAMES = 5 * FRAMES_PER_SECOND
"""Least number of frames to encode."""
LONG_TRAILING_FRAMES = 5 * FRAMES_PER_SECOND
LONG_LEAST_FRAMES = 15 * FRAMES_PER_SECOND
"""The same two values for `Window.LONG`. They had as few errors as 30 s encoded (7 and 8 of 265 words; in pink noise at
10 dB 16 and 17) in less than half of the time."""
STEP_FRAMES = FRAMES_PER_SECOND
"""Encoded lengths are multiples of this, so that utterances of similar length share a batch."""
MAX_TOKENS = 448
"""Most tokens of prompt and text (`n_text_ctx`)."""
MAX_PROMPT_TOKENS = 200
"""Most tokens of hotwords and context; with as many tokens of text they stay below `MAX_TOKENS`."""


class Window(Enum):
    """How much silence after an utterance is encoded."""

    SHORT = "short"
    """A second of silence, and the decoder sees at least 20 or 30 s."""
    LONG = "long"
    """Five seconds of silence and 15 s at least, and the decoder sees 30 s."""
    WHOLE = "whole"
    """30 s, as Whisper was trained."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The best text of one decode."""

    tokens: tuple[int, ...]
    mean_log_prob: float
    """Mean log-probability of its tokens and the end of text."""
    no_speech_prob: float
    """Probability that the window has no speech, by the model."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """The device that the model runs on."""

    device: str
    """`cpu` or `cuda`."""
    compute_type: str


def choose_hardware(device: Device, compute_type: str) -> Hardware:
    """Resolve `auto`.

    Raises:
        EngineError: there is no such device.
    """
    gpus = ctranslate2.get_cuda_device_count()
    if device == "cuda" and not gpus:
        raise EngineError("STT_WHISPER_DEVICE=cuda, but no CUDA device is there: set STT_WHISPER_DEVICE=cpu")
    chosen = "cuda" if gpus and device != "cpu" else "cpu"
    if compute_type == "auto":
        wanted = ("float16", "int8_float16") if chosen == "cuda" else ("int8",)
        supported = ctranslate2.get_supported_compute_types(chosen)
        compute_type = next((each for each in wanted if each in supported), "default")
    return Hardware(chosen, compute_type)


class Model:
    """One model in memory."""

    def __init__(
        self,
        folder: Path,
        hardware: Hardware,
        workers: int,
        *,
        niceness: int = 0,
        silence: Array | None = None,
    ) -> None:
        """Load `folder`; blocks for a second or more.

        Args:
            folder: CTranslate2 files and tokenizer.json.
            hardware: from `choose_hardware`.
            workers: decodes at once, a core each.
            niceness: of its threads, 0 to 19 (Linux): higher values run after others when cores are busy.
            silence: encoder states of 30 s of silence, [1, 1500, d_model], if another model of `folder` has them.

        Raises:
            EngineError: the files cannot be loaded.
        """
        self.hardware = hardware
        self._folder = folder
        self._workers = workers
        build = partial(
            ctranslate2.models.Whisper,
            str(folder),
            device=hardware.device,
            compute_type=hardware.compute_type,
            inter_threads=workers,
            intra_threads=1,
        )
        try:
            self._tokens = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._model = _build_at_niceness(build, niceness) if niceness else build()
        except Exception as error:  # tokenizers raises Exception itself
            raise EngineError(f"the Whisper model in {folder} cannot be loaded: {error}") from error
        self._extractor = FeatureExtractor(feature_size=self._model.n_mels)
        self.languages = _languages(self._tokens, multilingual=self._model.is_multilingual)
        self.translates = self._model.is_multilingual and not _is_distilled(folder, self._model.n_mels)
        self._silence = self._encode_silence() if silence is None else silence
        # Measured: base is as accurate with a window of 20 s, and a fifth faster; tiny.en repeated itself.
        self._least_states = 1000 if self._silence.shape[2] == 512 else WINDOW_FRAMES // 2

    def replica(self, niceness: int) -> Model:
        """Load the same model again, for threads of another niceness; blocks for half a second or more.

        Raises:
            EngineError: the files cannot be loaded.
        """
        return Model(self._folder, self.hardware, self._workers, niceness=niceness, silence=self._silence)

    @property
    def multilingual(self) -> bool:
        """Whether it detects languages, and has a language in its prompt."""
        return bool(self._model.is_multilingual)

    def features(self, signal: Signal) -> Array:
        """Log-mel spectrogram of at most 30 s: float32 [n] -> float32 [mels, frames]."""
        spectrum: Array = self._extractor(signal)
        return spectrum[:, :WINDOW_FRAMES]

    def encode(self, spectra: Sequence[Array], window: Window) -> list[Array]:
        """States of each spectrum, [1, positions, d_model]."""
        lengths = [encoded_frames(each.shape[1], window) for each in spectra]
        least = self._least_states if window is Window.SHORT else WINDOW_FRAMES // 2
        states: list[Array] = list(spectra)
        for length in sorted(set(lengths)):
            chosen = [index for index, each in enumerate(lengths) if each == length]
            batch = self._encode_batch([spectra[index] for index in chosen], length)
            for row, index in enumerate(chosen):
                states[index] = self._complete(batch[row : row + 1], least)
        return states

    def generate(self, states: Array, prompts: list[list[int]], limit: int, beams: int) -> list[Hypothesis]:
        """Decode a batch; all prompts have the same number of tokens, and no text more than `limit`."""
        prompt = len(prompts[0])
        results = self._model.generate(
            ctranslate2.StorageView.from_array(states),
            prompts,
            beam_size=beams,
            # CTranslate2 allows at most half of MAX_TOKENS for the text, and at most what the prompt leaves.
            max_length=min(MAX_TOKENS, max(2 * limit, limit + prompt)),
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [_hypothesis(result) for result in results]

    def detect_languages(self, states: Array) -> list[str]:
        """Most probable language of each, a primary subtag; the model is multilingual."""
        found = self._model.detect_language(ctranslate2.StorageView.from_array(states))
        return [_SUBTAGS.get(code := each[0][0][2:-2], code) for each in found]

    def align(self, states: Array, language: str, tokens: list[int], frames: int) -> tuple[Array, list[float]]:
        """Start of each token and of the end, in seconds, and the tokens' probabilities. `states`: of one utterance."""
        start = self.tokenizer(language, "transcribe").sot_sequence
        (result,) = self._model.align(ctranslate2.StorageView.from_array(states), start, [tokens], frames)
        path = np.array(result.alignments)
        first = np.pad(np.diff(path[:, 0]), (1, 0), constant_values=1).astype(bool)
        return path[first, 1] * 2 / FRAMES_PER_SECOND, list(result.text_token_probs)

    def tokenizer(self, language: str, task: Task) -> Tokenizer:
        """Tokenizer and control tokens for a language it has."""
        code = _CODES.get(language, language)
        return Tokenizer(self._tokens, self.multilingual, task=task, language=code)

    def unload(self) -> None:
        """Free the weights. The model cannot be used any more."""
        self._model.unload_model()

    def _encode_batch(self, spectra: Sequence[Array], frames: int) -> Array:
        batch = np.stack([np.pad(each, ((0, 0), (0, frames - each.shape[1]))) for each in spectra])
        view = self._model.encode(ctranslate2.StorageView.from_array(batch), to_cpu=True)
        states: Array = np.asarray(view)
        return states

    def _encode_silence(self) -> Array:
        return self._encode_batch([self.features(np.zeros(30 * SAMPLE_RATE, np.float32))], WINDOW_FRAMES)

    def _complete(self, states: Array, least: int) -> Array:
        """Append states of silence from the same positions."""
        encoded = states.shape[1]
        total = least if encoded < least else WINDOW_FRAMES // 2
        return np.concatenate((states, self._silence[:, encoded:total]), axis=1)


def encoded_frames(frames: int, window: Window) -> int:
    """Number of frames to encode for an utterance of `frames`: even, and with silence after it if there is room."""
    least, trailing = {
        Window.SHORT: (LEAST_FRAMES, TRAILING_FRAMES),
        Window.LONG: (LONG_LEAST_FRAMES, LONG_TRAILING_FRAMES),
        Window.WHOLE: (WINDOW_FRAMES, 0),
    }[window]
    steps = -(-(frames + trailing) // STEP_FRAMES)
    return min(WINDOW_FRAMES, max(least, steps * STEP_FRAMES))


def _build_at_niceness(build: partial[Any], niceness: int) -> Any:  # noqa: ANN401 - a CTranslate2 model has no type
    """CTranslate2's threads inherit the niceness of the thread that builds the model."""

    def renice_and_build() -> Any:  # noqa: ANN401 - likewise
        if hasattr(os, "setpriority") and os.uname().sysname == "Linux":  # elsewhere niceness is that of the process
            thread = threading.get_native_id()
            lowered = min(19, os.getpriority(os.PRIO_PROCESS, thread) + niceness)
            os.setpriority(os.PRIO_PROCESS, thread, lowered)
        return build()

    with ThreadPoolExecutor(1, "whisper-load") as thread:
        return thread.submit(renice_and_build).result()


def _hypothesis(result: Any) -> Hypothesis:  # noqa: ANN401 - likewise
    tokens = tuple(result.sequences_ids[0])
    # CTranslate2 divides the sum by the number of tokens without the end of text.
    mean = result.scores[0] * len(tokens) / (len(tokens) + 1)
    return Hypothesis(tokens, mean, result.no_speech_prob)


def _languages(tokens: tokenizers.Tokenizer, *, multilingual: bool) -> frozenset[str]:
    if not multilingual:
        return frozenset({"en"})
    control = [token.content for _, token in sorted(tokens.get_added_tokens_decoder().items())]
    first, last = control.index("<|startoftranscript|>"), control.index("<|translate|>")
    codes = (token[2:-2] for token in control[first + 1 : last])
    return frozenset(_SUBTAGS.get(code, code) for code in codes)


def _is_distilled(folder: Path, mels: int) -> bool:
    """Whether it is large-v3-turbo or distil-large-v3, which have few decoder layers and do not translate."""
    heads = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("alignment_heads", [])
    return mels == 128 and bool(heads) and max(layer for layer, _ in heads) < 4


_SUBTAGS = {"jw": "jv"}
"""Whisper's language codes that differ from BCP 47."""
_CODES = {subtag: code for code, subtag in _SUBTAGS.items()}
