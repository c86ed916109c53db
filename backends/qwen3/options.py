"""The qwen3 engine's options; imports nothing heavy, so that settings can build them."""

from __future__ import annotations

import math
from dataclasses import dataclass

AUDIO_TOKENS_PER_SECOND = 13
"""Length of the encoder's output: 100 mel frames of 10 ms through three strides of 2, rounded up."""

CONTEXT_TOKENS = 512
"""Room for hotwords in a prompt; hotwords that do not fit are left out."""

_TEMPLATE_TOKENS = 64
"""Room for the rest of a prompt (turns, markers, a language), which has about 20 tokens."""


@dataclass(frozen=True, slots=True)
class Qwen3Options:
    """The model, its share of the machine, and the engine's sizes.

    The sizes are explicit because embedded vLLM 0.32 defaults to 128 sequences, 2048 batched tokens and an encoder
    cache of 157 s of audio on any GPU.
    """

    model: str = "Qwen/Qwen3-ASR-1.7B"
    """Name on the Hugging Face hub, or a folder."""
    gpu_memory: float = 0.7
    """Part of the GPU's memory to take, 0 to 1."""
    max_tokens: int = 512
    """Longest text of an utterance, in tokens."""
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
    encoder_cache_tokens: int = 65_536
    """Encoded audio kept, in audio tokens (84 minutes); 268 MB of GPU memory for the 1.7B model when full."""
    block_size: int = 0
    """Tokens in a KV cache block; 0: 16 on CUDA, 32 on a CPU, whose attention needs multiples of 32."""
    freeze_windows: bool = True
    """Send each closed window of 8 s as an audio item; False: encode the whole utterance at each refresh."""
    load_format: str = "auto"
    """vLLM's option; `dummy` gives the model random weights, for load tests without a download."""

    @property
    def batch_slots(self) -> int:
        """Pieces of files in the engine at once. vLLM does not preempt a running piece for a final."""
        return max(1, min(self.max_inference_batch_size, self.max_num_seqs // 4))

    @property
    def max_model_len(self) -> int:
        """Tokens of the longest prompt with its text, rounded up to 256; a second of it is for pre-roll."""
        audio = math.ceil(self.longest_seconds + 1) * AUDIO_TOKENS_PER_SECOND
        return math.ceil((audio + self.max_tokens + CONTEXT_TOKENS + _TEMPLATE_TOKENS) / 256) * 256
