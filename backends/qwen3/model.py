"""The one place that knows vLLM: an `AsyncLLM`, its input and its output. Lives on one event loop.

vLLM is imported when a model is built, in 8 s and more. It has types, which this project's own environment lacks, so
what comes from it is `Any` here, and nowhere else.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backends.qwen3.guard import Guard
from backends.qwen3.options import Qwen3Options
from backends.qwen3.repetition import CERTAIN_COUNT, LONGEST_PATTERN
from backends.qwen3.windows import LEAST, WINDOW
from protocol.pcm import Signal

_ENVIRONMENT = {
    # Forking a server with many threads can hang the child, and engines are rebuilt while sessions are open.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # Read by vLLM's CPU build only: GiB for the KV cache, and no pinning of threads to cores of a shared machine.
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
"""Set unless the operator did."""

_MONITOR = "MPClientEngineMonitor"
"""vLLM's thread that waits for the end of its processes, and follows them."""
_END_SECONDS = 3.0
"""Longest wait for a killed process, and for that thread."""

_PROCESSOR_CACHE_GB = 1.0
"""Mel spectra kept on this side; 0.4 MB for a window of 8 s."""

_LONGEST_CLIP = 30 * LEAST
"""Samples that the model's feature extractor names as its longest; what is longer works, and is not profiled."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One audio item: float32 16 kHz, shape [n]; the same `key` promises the same samples."""

    key: str
    samples: Signal


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt with its audio."""

    tokens: Sequence[int]
    clips: tuple[Clip, ...]
    """One for each placeholder in `tokens`."""
    max_tokens: int
    priority: int
    """Lower is served first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model wrote."""

    tokens: tuple[int, ...]
    """Text only: no end of turn, no other markup."""
    runaway: bool
    """It was stopped at its cap, or because it repeated itself."""
    prompt_tokens: int
    cached_tokens: int


class Lost(Exception):
    """The engine misses audio that it was said to have: render it again, whole."""


class Vocabulary:
    """A `Tokenizer`; any thread."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - of transformers
        # A copy with a lock: tokenizers set their truncation at each call, and fail where two threads meet there.
        self._tokenizer = copy.deepcopy(tokenizer)
        self._lock = threading.Lock()
        markup = {text: token for text, token in tokenizer.get_added_vocab().items() if text != "<asr_text>"}
        self._markup = frozenset(markup.values())

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        with self._lock:
            tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """See `Tokenizer`."""
        with self._lock:
            text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text

    def words(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """`tokens` without markup, which in a prefix would break the prompt."""
        return tuple(token for token in tokens if token not in self._markup)


class Model:
    """An engine with its processes. Build it, use it and shut it down on one loop, in a thread that outlives it."""

    def __init__(self, options: Qwen3Options) -> None:
        """Start the processes; blocks for 20 s and more."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from vllm.renderers.inputs.preprocess import parse_model_prompt  # noqa: PLC0415 - heavy
        from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415 - heavy

        self._parse = parse_model_prompt
        threads, processes = set(threading.enumerate()), set(multiprocessing.active_children())
        self._engine: Any = AsyncLLM.from_vllm_config(_configuration(options), disable_log_stats=True)
        self._processes = set(multiprocessing.active_children()) - processes
        self._monitors = [thread for thread in set(threading.enumerate()) - threads if thread.name == _MONITOR]
        self.vocabulary = Vocabulary(self._engine.get_tokenizer())

    @property
    def dead(self) -> bool:
        """Whether a process of it died, or it was shut down; any thread."""
        engine = self._engine
        return engine is None or bool(engine.errored)

    async def render(self, request: Request, *, whole: bool = False) -> Any:  # noqa: ANN401 - vLLM's EngineInput
        """Make the engine's input: mel spectra of new clips. What is rendered must be sent: the engine keeps count.

        `whole`: also of clips that the engine was sent before.
        """
        prompt = {
            "prompt_token_ids": list(request.tokens),
            "multi_modal_data": {"audio": [_padded(clip.samples) for clip in request.clips]},
            "multi_modal_uuids": {"audio": [clip.key for clip in request.clips]},
        }
        parsed = self._parse(self._engine.model_config, prompt)
        (rendered,) = await self._engine.renderer.render_cmpl_async([parsed], skip_mm_cache=whole)
        return rendered

    async def generate(self, rendered: Any, request: Request, name: str) -> Answer:  # noqa: ANN401 - as above
        """Decode; cancelling it aborts the request.

        Raises:
            Lost: see there.
        """
        output: Any = None
        parameters = self._sampling(request)
        async for newest in self._engine.generate(rendered, parameters, name, priority=request.priority):
            output = newest
        said = output.outputs[0]
        if said.finish_reason in ("error", "abort"):
            raise Lost(f"{name} ended by {said.finish_reason}")
        return Answer(
            tokens=self.vocabulary.words(said.token_ids),
            runaway=said.finish_reason != "stop",
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens or 0,
        )

    async def discard(self, rendered: Any, request: Request, name: str) -> None:  # noqa: ANN401 - as above
        """Send what was rendered and is not wanted any more, so that the engine has its clips; decode nothing."""
        await self._engine.add_request(name, rendered, _sampling(1), priority=request.priority)
        await self._engine.abort(name)

    def _sampling(self, request: Request) -> Any:  # noqa: ANN401 - vLLM's SamplingParams
        return _sampling(request.max_tokens)

    def shutdown(self) -> None:
        """End the processes; they have nothing to lose, so at once. Idempotent."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown(timeout=0)
        # A killed process ends when the kernel has taken its memory back, the GPU's included.
        for process in self._processes:
            process.join(_END_SECONDS)
        for monitor in self._monitors:
            monitor.join(_END_SECONDS)


def _padded(samples: Signal) -> Signal:
    return samples if len(samples) >= LEAST else np.pad(samples, (0, LEAST - len(samples)))


def _sampling(max_tokens: int) -> Any:  # noqa: ANN401 - vLLM's SamplingParams
    from vllm.sampling_params import RepetitionDetectionParams, RequestOutputKind, SamplingParams  # noqa: PLC0415

    return SamplingParams(
        temperature=0.0,
        max_tokens=max_tokens,
        output_kind=RequestOutputKind.FINAL_ONLY,
        detokenize=False,
        repetition_detection=RepetitionDetectionParams(max_pattern_size=LONGEST_PATTERN, min_count=CERTAIN_COUNT),
    )


def _configuration(options: Qwen3Options) -> Any:  # noqa: ANN401 - vLLM's VllmConfig
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415 - heavy
    from vllm.platforms import current_platform  # noqa: PLC0415 - heavy
    from vllm.usage.usage_lib import UsageContext  # noqa: PLC0415 - heavy

    cuda = current_platform.is_cuda()
    longest = round(options.longest_seconds + 1) * LEAST
    clip = WINDOW + LEAST if options.freeze_windows else min(longest, _LONGEST_CLIP)
    arguments = AsyncEngineArgs(
        model=options.model,
        load_format=options.load_format,
        dtype="bfloat16",
        enforce_eager=not cuda,
        gpu_memory_utilization=options.gpu_memory,
        max_model_len=options.max_model_len,
        max_num_seqs=options.max_num_seqs,
        max_num_batched_tokens=max(options.max_num_batched_tokens, options.max_model_len),
        block_size=options.block_size or (16 if cuda else 32),
        enable_prefix_caching=True,
        scheduling_policy="priority",
        limit_mm_per_prompt={"audio": {"count": longest // WINDOW + 1, "length": clip}},
        mm_processor_cache_gb=_PROCESSOR_CACHE_GB,
        disable_log_stats=True,
        enable_log_requests=False,
    )
    configuration = arguments.create_engine_config(UsageContext.ENGINE_CONTEXT)
    # "Not configurable" from outside: it equals the batched tokens, 10 minutes of audio for everyone.
    configuration.scheduler_config.encoder_cache_size = options.encoder_cache_tokens
    configuration.additional_config = Guard()
    return configuration
