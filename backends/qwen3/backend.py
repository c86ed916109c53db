"""Qwen3-ASR for everyone at once: one engine, any number of utterances."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from backends.base import StreamOptions
from backends.qwen3.engine import Engine
from backends.qwen3.languages import NAMES
from backends.qwen3.model import Model
from backends.qwen3.options import Qwen3Options
from backends.qwen3.prompt import Frame, frame
from backends.qwen3.stream import Qwen3Stream, Speaker
from backends.qwen3.work import Done, WorkReport


def _nobody(_: Done) -> None:
    """Nobody wants to know."""


class Qwen3Backend:
    """An `ASRBackend`."""

    def __init__(
        self,
        options: Qwen3Options,
        build: Callable[[Qwen3Options], Model] = Model,
        on_done: Callable[[Done], None] = _nobody,
    ) -> None:
        """Prepare the engine; `start` starts it.

        Args:
            options: the model and the engine's sizes.
            build: starts a model; blocks.
            on_done: called for each decode that is done, on the engine's loop; must not wait.
        """
        self._options = options
        self._engine = Engine(options, build, on_done)
        # A session opens many utterances with one set of hotwords.
        self._frame = lru_cache(maxsize=options.max_num_seqs)(self._new_frame)

    @property
    def name(self) -> str:
        """See `ASRBackend`."""
        return "qwen3"

    @property
    def languages(self) -> frozenset[str] | None:
        """See `ASRBackend`."""
        return frozenset(NAMES)

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
        return self._options.max_inference_batch_size

    def start(self) -> None:
        """See `ASRBackend`."""
        self._engine.start()

    def healthy(self) -> bool:
        """See `ASRBackend`; False from the engine's death until another is warm."""
        return self._engine.healthy()

    def stream(self, options: StreamOptions) -> Qwen3Stream:
        """See `ASRBackend`."""
        around = self._frame(options.hotwords, options.language)
        speaker = Speaker(around, options.language, options.live, options.notify)
        return Qwen3Stream(
            self._engine,
            self._engine.vocabulary,
            speaker,
            max_tokens=self._options.max_tokens,
            freeze=self._options.freeze_windows,
        )

    def work(self) -> WorkReport:
        """What the engine did so far."""
        return self._engine.work()

    def close(self) -> None:
        """See `ASRBackend`."""
        self._engine.close()

    def _new_frame(self, hotwords: tuple[str, ...], language: str | None) -> Frame:
        return frame(self._engine.vocabulary, hotwords, language)
