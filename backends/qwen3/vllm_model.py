"""The only module that uses vLLM: an `AsyncLLM`, its input and its output, on one event loop.

vLLM is imported when a model is built; the import takes 8 s and more. Objects of vLLM are `Any` here, and in no other
module, because this project's own environment has no vLLM whose types mypy could read.
"""

from __future__ import annotations

import copy
import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backends.qwen3.audio_items import MIN_ITEM_SAMPLES
from backends.qwen3.options import Qwen3Options
from backends.qwen3.parent_death import ParentDeathSignal
from backends.qwen3.repetition import MAX_PATTERN_TOKENS
from backends.qwen3.schedule import Ending
from backends.qwen3.vllm_arguments import engine_arguments, require_known
from protocol.pcm import Signal

_ENVIRONMENT = {
    # A fork of a server with many threads can hang the child, and engines are rebuilt while sessions are open.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # For vLLM's CPU build only: GiB for the KV cache, and threads that are not pinned to cores.
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
"""Environment variables that the operator may override."""

_MONITOR = "MPClientEngineMonitor"
"""Name of the thread in which vLLM waits for the end of its processes."""
_END_SECONDS = 3.0
"""Longest wait for the end of a killed process, and of that thread."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One audio item: float32 16 kHz, shape [n]. Clips with equal keys must have equal samples."""

    key: str
    samples: Signal


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """A prompt with its audio and its limits."""

    tokens: Sequence[int]
    clips: tuple[Clip, ...]
    """One for each placeholder in `tokens`."""
    max_tokens: int
    max_repeats: int
    """Repetitions of a phrase in a row at which vLLM ends the text."""
    priority: int
    """vLLM serves lower numbers first."""


@dataclass(frozen=True, slots=True)
class DecodeOutput:
    """The tokens that the model generated."""

    tokens: tuple[int, ...]
    """Token ids, without the end of turn and other markup."""
    ending: Ending
    prompt_tokens: int
    cached_tokens: int


class CacheMiss(Exception):
    """vLLM lacks the features of a clip that was sent before: render again, with `whole=True`."""


class ThreadSafeTokenizer:
    """A `prompt.Tokenizer` for any thread."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - of transformers
        # Tokenizers set their truncation at each call and fail if two threads do that at once. vLLM uses the original.
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

    def without_markup(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """Remove markup except `<asr_text>`: in a prefix it would break the prompt."""
        return tuple(token for token in tokens if token not in self._markup)


class VllmModel:
    """vLLM with its processes. Create, use and shut it down on one event loop, in a thread that outlives the model."""

    def __init__(self, options: Qwen3Options) -> None:
        """Start the processes; blocks for 20 s and more.

        Raises:
            Exception: whatever vLLM raises.
        """
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from vllm.renderers.inputs.preprocess import parse_model_prompt  # noqa: PLC0415 - heavy
        from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415 - heavy

        self._parse = parse_model_prompt
        threads, processes = set(threading.enumerate()), set(multiprocessing.active_children())
        self._engine: Any = AsyncLLM.from_vllm_config(_configuration(options), disable_log_stats=True)
        self._processes = set(multiprocessing.active_children()) - processes
        self._monitors = [thread for thread in set(threading.enumerate()) - threads if thread.name == _MONITOR]
        self.tokenizer = ThreadSafeTokenizer(self._engine.get_tokenizer())

    @property
    def dead(self) -> bool:
        """Whether one of the processes died, or `shutdown` was called; any thread."""
        engine = self._engine
        return engine is None or bool(engine.errored)

    async def render(self, request: DecodeRequest, *, whole: bool = False) -> Any:  # noqa: ANN401 - vLLM's EngineInput
        """Compute vLLM's input: the tokens, and mel spectra of clips with new keys.

        The result must be passed to `generate` or `discard`: the renderer counts it as sent.

        Args:
            request: the prompt and its audio.
            whole: include the spectra of clips that were sent before.
        """
        prompt = {
            "prompt_token_ids": list(request.tokens),
            "multi_modal_data": {"audio": [_pad_to_minimum(clip.samples) for clip in request.clips]},
            "multi_modal_uuids": {"audio": [clip.key for clip in request.clips]},
        }
        parsed = self._parse(self._engine.model_config, prompt)
        (rendered,) = await self._engine.renderer.render_cmpl_async([parsed], skip_mm_cache=whole)
        return rendered

    async def generate(self, rendered: Any, request: DecodeRequest, name: str) -> DecodeOutput:  # noqa: ANN401 - as above
        """Decode what `render` returned; a cancelled call aborts the request.

        Args:
            rendered: what `render` returned.
            request: the request that was rendered.
            name: not used before with this model.

        Raises:
            CacheMiss: vLLM lacks features of a clip.
            Exception: whatever vLLM raises.
        """
        output: Any = None
        parameters = self._sampling(request)
        async for latest in self._engine.generate(rendered, parameters, name, priority=request.priority):
            output = latest
        generated = output.outputs[0]
        if generated.finish_reason in ("error", "abort"):
            raise CacheMiss(f"{name} ended by {generated.finish_reason}")
        return DecodeOutput(
            tokens=self.tokenizer.without_markup(generated.token_ids),
            ending=Ending(generated.finish_reason),
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens or 0,
        )

    async def discard(self, rendered: Any, request: DecodeRequest, name: str) -> None:  # noqa: ANN401 - as above
        """Send a rendered request and abort it: vLLM then has its clips, and decodes nothing."""
        await self._engine.add_request(name, rendered, _sampling(1, request.max_repeats), priority=request.priority)
        await self._engine.abort(name)

    def _sampling(self, request: DecodeRequest) -> Any:  # noqa: ANN401 - vLLM's SamplingParams
        return _sampling(request.max_tokens, request.max_repeats)

    def shutdown(self) -> None:
        """Kill the processes at once: they hold no state that is needed. Idempotent."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown(timeout=0)
        # The kernel frees a killed process's memory, also on the GPU, before the process ends.
        for process in self._processes:
            process.join(_END_SECONDS)
        for monitor in self._monitors:
            monitor.join(_END_SECONDS)


def _pad_to_minimum(samples: Signal) -> Signal:
    return samples if len(samples) >= MIN_ITEM_SAMPLES else np.pad(samples, (0, MIN_ITEM_SAMPLES - len(samples)))


def _sampling(max_tokens: int, max_repeats: int) -> Any:  # noqa: ANN401 - vLLM's SamplingParams
    from vllm.sampling_params import RepetitionDetectionParams, RequestOutputKind, SamplingParams  # noqa: PLC0415

    return SamplingParams(
        temperature=0.0,
        max_tokens=max_tokens,
        output_kind=RequestOutputKind.FINAL_ONLY,
        detokenize=False,
        repetition_detection=RepetitionDetectionParams(max_pattern_size=MAX_PATTERN_TOKENS, min_count=max_repeats),
    )


def _configuration(options: Qwen3Options) -> Any:  # noqa: ANN401 - vLLM's VllmConfig
    import vllm  # noqa: PLC0415 - heavy
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415 - heavy
    from vllm.platforms import current_platform  # noqa: PLC0415 - heavy
    from vllm.usage.usage_lib import UsageContext  # noqa: PLC0415 - heavy

    require_known(options.engine_args, [field.name for field in dataclasses.fields(AsyncEngineArgs)], vllm.__version__)
    arguments = AsyncEngineArgs(**engine_arguments(options, cuda=current_platform.is_cuda()))
    configuration = arguments.create_engine_config(UsageContext.ENGINE_CONTEXT)
    # vLLM has no option for this size: it would equal max_num_batched_tokens, 10 minutes of audio for all streams.
    configuration.scheduler_config.encoder_cache_size = options.encoder_cache_size
    configuration.additional_config = ParentDeathSignal()
    return configuration
