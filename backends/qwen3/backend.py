"""The `ASRBackend` of Qwen3-ASR: one engine for any number of utterances."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache

from backends.base import StreamOptions
from backends.qwen3.engine import SharedEngine
from backends.qwen3.languages import ALIASES, NAMES
from backends.qwen3.metrics import engine_metrics
from backends.qwen3.options import Qwen3Options
from backends.qwen3.prompt import PromptTemplate, build_template
from backends.qwen3.restart_policy import DEFAULT_POLICY, RestartPolicy
from backends.qwen3.stats import CompletedDecode, EngineStats
from backends.qwen3.stream import Qwen3Stream, UtteranceOptions
from backends.qwen3.vllm_model import VllmModel
from observability.engine_metrics import EngineMetric


def _ignore(_: CompletedDecode) -> None:
    """Do nothing."""


def end_process() -> None:
    """End the server with status 1. Nothing is left to drain: every session ended when the engine failed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


class Qwen3Backend:
    """An `ASRBackend`."""

    def __init__(
        self,
        options: Qwen3Options,
        build: Callable[[Qwen3Options], VllmModel] = VllmModel,
        on_completed: Callable[[CompletedDecode], None] = _ignore,
        restart_policy: RestartPolicy = DEFAULT_POLICY,
        give_up: Callable[[], None] = end_process,
    ) -> None:
        """Prepare the engine; `start` starts it.

        Args:
            options: the model and the engine's sizes.
            build: starts a model; blocks.
            on_completed: called for each completed decode, on the engine's loop; must not wait.
            restart_policy: when an engine that failed is restarted.
            give_up: called on the engine's thread when the policy allows no further restart.
        """
        self._options = options
        self._engine = SharedEngine(options, build, on_completed, restart_policy, give_up)
        # A session opens many utterances with the same hotwords.
        self._template = lru_cache(maxsize=options.max_num_seqs)(self._build_template)

    @property
    def name(self) -> str:
        """See `ASRBackend`."""
        return "qwen3"

    @property
    def languages(self) -> frozenset[str] | None:
        """See `ASRBackend`."""
        return frozenset(NAMES) | frozenset(ALIASES)

    @property
    def uses_hotwords(self) -> bool:
        """See `ASRBackend`."""
        return True

    @property
    def has_words(self) -> bool:
        """See `ASRBackend`."""
        return False

    @property
    def translates(self) -> bool:
        """See `ASRBackend`."""
        return False

    @property
    def batch_width(self) -> int:
        """See `ASRBackend`."""
        return self._options.batch_slots

    def start(self) -> None:
        """See `ASRBackend`."""
        self._engine.start()

    def healthy(self) -> bool:
        """See `ASRBackend`; False from the engine's death until its successor is warm."""
        return self._engine.healthy()

    def stream(self, options: StreamOptions) -> Qwen3Stream:
        """See `ASRBackend`."""
        template = self._template(options.hotwords, options.language)
        return Qwen3Stream(
            self._engine,
            self._engine.tokenizer,
            UtteranceOptions(template, options.language, options.live, options.notify),
            max_tokens=self._options.text_tokens,
            freeze=self._options.freeze_windows,
        )

    def stats(self) -> EngineStats:
        """All decodes since the backend was created; any thread."""
        return self._engine.stats()

    def metrics(self) -> Iterator[EngineMetric]:
        """See `ReportsMetrics`."""
        return engine_metrics(self._engine.stats(), self._engine.state())

    def close(self) -> None:
        """See `ASRBackend`."""
        self._engine.close()

    def _build_template(self, hotwords: tuple[str, ...], language: str | None) -> PromptTemplate:
        return build_template(self._engine.tokenizer, hotwords, language)
