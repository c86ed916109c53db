"""What the qwen3 engine is told; imports nothing heavy, so settings can build it."""

from __future__ import annotations

import math
from dataclasses import dataclass

AUDIO_TOKENS_PER_SECOND = 13
"""The encoder's output: at most 13 a second (100 mel frames of 10 ms through three strides of 2)."""

CONTEXT_TOKENS = 512
"""Of hotwords in a prompt; those that do not fit are left out."""

_FRAME_TOKENS = 64
"""Of everything else in a prompt: turns, markers, a language; it has about 20."""


@dataclass(frozen=True, slots=True)
class Qwen3Options:
    """The model, its share of the machine, and explicit engine sizes.

    In-process vLLM defaults to 128 sequences, 2048 batched tokens and room for 157 s of encoded audio on any GPU.
    """

    model: str = "Qwen/Qwen3-ASR-1.7B"
    """Name on the Hugging Face hub, or a folder."""
    gpu_memory: float = 0.7
    """Part of the GPU's memory to take."""
    max_tokens: int = 512
    """Longest text of an utterance, in tokens."""
    max_inference_batch_size: int = 32
    """Pieces of files decoded at once, all files together."""
    refresh_seconds: float = 0.5
    """Speech between two refreshes of the partial text, when there is capacity."""
    refresh_spread: float = 2.0
    """A stream waits so many times the length of a refresh before the next: at least half of the time none of it is in
    the engine, and everyone's finals find room in the batch. 0: whatever refreshes take, to measure their work."""
    longest_seconds: float = 30.0
    """Longest utterance there will be."""
    max_num_seqs: int = 256
    """Decodes in the engine at once: the live capacity."""
    max_num_batched_tokens: int = 8192
    """Tokens computed in one engine step."""
    encoder_cache_tokens: int = 65_536
    """Encoded audio kept, in audio tokens (84 minutes); 268 MB of GPU memory for the 1.7B model when full."""
    block_size: int = 0
    """Tokens in a KV cache block; 0: 16 on CUDA, 32 on a CPU, whose attention needs multiples of 32."""
    freeze_windows: bool = True
    """Send closed 8 s windows as audio items of their own; False encodes the whole utterance at each refresh."""
    load_format: str = "auto"
    """vLLM's: `dummy` fills the model's shape with random weights, for load tests without a download."""

    @property
    def max_model_len(self) -> int:
        """Tokens of the longest prompt with its text, in whole blocks of 256; a second of slack for pre-roll."""
        audio = math.ceil(self.longest_seconds + 1) * AUDIO_TOKENS_PER_SECOND
        return math.ceil((audio + self.max_tokens + CONTEXT_TOKENS + _FRAME_TOKENS) / 256) * 256
