"""The arguments of vLLM's engine, from the options. Pure: vLLM is not imported."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from backends.base import EngineError
from backends.qwen3.audio_items import MIN_ITEM_SAMPLES, WINDOW_SAMPLES
from backends.qwen3.options import Qwen3Options

_PROCESSOR_CACHE_GB = 1.0
"""Size of the cache of mel spectra in this process; a window of 8 s has 0.4 MB."""

_MAX_PROFILED_SAMPLES = 30 * MIN_ITEM_SAMPLES
"""Longest clip that the model's feature extractor states; longer clips work, but vLLM cannot profile them."""


def engine_arguments(options: Qwen3Options, *, cuda: bool) -> dict[str, Any]:
    """Keyword arguments for `AsyncEngineArgs`; the operator's `engine_args` replace others of the same name."""
    longest = round(options.longest_seconds + 1) * MIN_ITEM_SAMPLES
    clip = WINDOW_SAMPLES + MIN_ITEM_SAMPLES if options.freeze_windows else min(longest, _MAX_PROFILED_SAMPLES)
    ours: dict[str, Any] = {
        "model": options.model,
        "revision": options.revision or None,
        "tokenizer_revision": options.revision or None,
        "load_format": options.load_format,
        "dtype": "auto",
        "enforce_eager": not cuda,
        "gpu_memory_utilization": options.gpu_memory,
        "max_model_len": options.max_model_len,
        "max_num_seqs": options.max_num_seqs,
        "max_num_batched_tokens": max(options.max_num_batched_tokens, options.max_model_len),
        "block_size": options.block_size or (16 if cuda else 32),
        "enable_prefix_caching": True,
        "scheduling_policy": "priority",
        "limit_mm_per_prompt": {"audio": {"count": longest // WINDOW_SAMPLES + 1, "length": clip}},
        "mm_processor_cache_gb": _PROCESSOR_CACHE_GB,
        "disable_log_stats": True,
        "enable_log_requests": False,
    }
    return ours | dict(options.engine_args)


def require_known(engine_args: Mapping[str, Any], known: Collection[str], version: str) -> None:
    """Check the operator's arguments against the names that vLLM `version` knows.

    Raises:
        EngineError: vLLM does not know one of them.
    """
    unknown = sorted(set(engine_args) - set(known))
    if unknown:
        raise EngineError(f"STT_VLLM_ENGINE_ARGS has arguments that vLLM {version} does not know: {', '.join(unknown)}")
