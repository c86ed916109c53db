"""The qwen3 engine's options; imports nothing heavy, so that settings can build them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

AUDIO_TOKENS_PER_SECOND = 13
"""Length of the encoder's output: 100 mel frames of 10 ms through three strides of 2, rounded up."""

CONTEXT_TOKENS = 512
"""Room for hotwords in a prompt; hotwords that do not fit are left out."""

TOKENS_PER_SECOND = 30
"""Most text tokens in a second of speech. The densest scripts are Greek and Hindi, with 5 to 6 tokens a word: fast
speech has 20 tokens a second (measured with the model's vocabulary). English has 3 to 4."""

_ORDINARY_TOKENS_PER_SECOND = 16
"""Text tokens in a second of Hindi at normal speed (measured as above)."""

_SLACK_TOKENS = 16
"""Room for the header `language X<asr_text>`, the end of turn, and a first syllable."""

_CACHE_TOKENS_PER_SEQUENCE = 256
"""Audio tokens in the encoder cache for each sequence: 20 s, 1 MB of GPU memory with the 1.7B model. A stream uses its
closed windows again at each refresh, and an entry must live at least so long."""
_LEAST_CACHE_TOKENS = 8192

_OWN_SETTINGS = {
    "model": "STT_VLLM_MODEL",
    "revision": "STT_VLLM_REVISION",
    "gpu_memory_utilization": "STT_VLLM_GPU_MEMORY",
    "max_num_seqs": "STT_VLLM_MAX_NUM_SEQS",
}
"""Arguments of vLLM on which more of the server depends than vLLM."""

_TEMPLATE_TOKENS = 64
"""Room for the rest of a prompt (turns, markers, a language), which has about 20 tokens."""


def text_tokens(seconds: float) -> int:
    """Most tokens of the text of so many seconds, its header included."""
    return _SLACK_TOKENS + math.ceil(TOKENS_PER_SECOND * seconds)


@dataclass(frozen=True, slots=True)
class Qwen3Options:
    """The model, its share of the machine, and the engine's sizes.

    The sizes are explicit because embedded vLLM 0.32 defaults to 128 sequences, 2048 batched tokens and an encoder
    cache of 157 s of audio on any GPU.
    """

    model: str = "Qwen/Qwen3-ASR-1.7B"
    """Name on the Hugging Face hub, or a folder."""
    revision: str = ""
    """Commit, tag or branch of the model on the hub; empty: the newest."""
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of vLLM's `AsyncEngineArgs` that replace or join those made from the other options."""
    gpu_memory: float = 0.7
    """Part of the GPU's memory to take, 0 to 1."""
    max_tokens: int = 0
    """Longest text of an utterance, in tokens; 0: as long as the longest utterance needs."""
    max_inference_batch_size: int = 32
    """Pieces of files decoded at once, all files together; at most a quarter of `max_num_seqs`."""
    refresh_seconds: float = 0.5
    """Least seconds of speech between two refreshes of the partial text."""
    refresh_spread: float = 2.0
    """Refreshes of an utterance start at least so many times as far apart as a refresh takes. With 2, an utterance has
    no refresh in the engine for half of the time, so finals find room. 0: no limit, for measurements."""
    decode_seconds: float = 30.0
    """Longest decode of live speech in seconds, after which it is aborted and repeated once."""
    longest_seconds: float = 30.0
    """Longest utterance in seconds."""
    max_num_seqs: int = 256
    """Decodes in the engine at once."""
    max_num_batched_tokens: int = 8192
    """Tokens computed in one engine step."""
    encoder_cache_tokens: int = 0
    """Encoded audio kept, in audio tokens; 0: `_CACHE_TOKENS_PER_SEQUENCE` for each sequence."""
    block_size: int = 0
    """Tokens in a KV cache block; 0: 16 on CUDA, 32 on a CPU, whose attention needs multiples of 32."""
    freeze_windows: bool = True
    """Send each closed window of 8 s as an audio item; False: encode the whole utterance at each refresh."""
    load_format: str = "auto"
    """vLLM's option; `dummy` gives the model random weights, for load tests without a download."""

    def conflict(self) -> str | None:
        """Why the options do not fit together, as one plain sentence that says what to set; None: they fit."""
        least = math.ceil(_ORDINARY_TOKENS_PER_SECOND * self.longest_seconds)
        if 0 < self.max_tokens < least:
            return (
                f"STT_VLLM_MAX_TOKENS={self.max_tokens} cuts off the text of {self.longest_seconds:g} s: set at least "
                f"{least}, set 0 to derive it, or set a smaller STT_VAD_MAX_SEGMENT_MS."
            )
        for argument, setting in _OWN_SETTINGS.items():
            if argument in self.engine_args:
                return f"STT_VLLM_ENGINE_ARGS cannot have {argument}: set {setting} instead."
        if "additional_config" in self.engine_args:
            return "STT_VLLM_ENGINE_ARGS cannot have additional_config: the server needs it to end the engine."
        return None

    @property
    def encoder_cache_size(self) -> int:
        """Encoded audio kept, in audio tokens; at least one longest utterance."""
        wanted = self.encoder_cache_tokens or _CACHE_TOKENS_PER_SEQUENCE * self.max_num_seqs
        return max(wanted, math.ceil(self.longest_seconds + 1) * AUDIO_TOKENS_PER_SECOND, _LEAST_CACHE_TOKENS)

    @property
    def text_tokens(self) -> int:
        """Longest text of an utterance, in tokens."""
        return self.max_tokens or text_tokens(self.longest_seconds)

    @property
    def batch_slots(self) -> int:
        """Pieces of files in the engine at once. vLLM does not preempt a running piece for a final."""
        return max(1, min(self.max_inference_batch_size, self.max_num_seqs // 4))

    @property
    def max_model_len(self) -> int:
        """Tokens of the longest prompt with its text, rounded up to 256; a second of it is for pre-roll."""
        audio = math.ceil(self.longest_seconds + 1) * AUDIO_TOKENS_PER_SECOND
        return math.ceil((audio + self.text_tokens + CONTEXT_TOKENS + _TEMPLATE_TOKENS) / 256) * 256
