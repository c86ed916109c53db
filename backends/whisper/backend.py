"""The `ASRBackend` of Whisper: one model in memory, and a bounded number of threads that decode."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from backends.base import EngineError, StreamOptions
from backends.whisper.decoders import Decoders
from backends.whisper.model import Hardware, Model, choose_hardware
from backends.whisper.options import WhisperOptions
from backends.whisper.scheduler import Kind, Limits
from backends.whisper.stream import WhisperStream
from backends.whisper.transcription import Request, Transcript, decode_finals, decode_partials
from protocol.pcm import SAMPLE_RATE

GPU_LIVE_BATCH = 16
"""Live utterances in one decode on a GPU, where a batch costs little more than its longest member."""
GPU_FILE_BATCH = 16
PARTIAL_NICENESS = 10
"""Niceness of the threads of partials on a CPU: a final that begins beside a partial then gets nine tenths of a
core."""
FILE_NICENESS = 19
_WARM_UP_SECONDS = 2


@dataclass(frozen=True, slots=True)
class _Models:
    """The models in memory; some may be the same."""

    final: Model
    draft: Model
    file: Model

    def of_partial(self, request: Request) -> Model:
        """The model for a partial: the smaller one if it knows the language.

        An English-only model writes English for any language.
        """
        known = self.draft.multilingual or request.language in self.draft.languages
        return self.draft if known else self.final

    def unload(self) -> None:
        for model in {id(each): each for each in (self.final, self.draft, self.file)}.values():
            model.unload()


class WhisperBackend:
    """An `ASRBackend`."""

    def __init__(self, options: WhisperOptions) -> None:
        self._options = options
        self._models: _Models | None = None
        self._decoders: Decoders | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        """Guards the end of `start` and `close`."""

    @property
    def name(self) -> str:
        """See `ASRBackend`."""
        return "whisper"

    @property
    def languages(self) -> frozenset[str] | None:
        """See `ASRBackend`; known when the model is loaded."""
        return None if self._models is None else self._models.final.languages

    @property
    def uses_hotwords(self) -> bool:
        """See `ASRBackend`."""
        return True

    @property
    def has_words(self) -> bool:
        """See `ASRBackend`."""
        return True

    @property
    def translates(self) -> bool:
        """See `ASRBackend`; False before the model is loaded."""
        return self._models is not None and self._models.final.translates

    @property
    def batch_width(self) -> int:
        """See `ASRBackend`: a batch for each thread, and as many that wait."""
        limits = _limits(self._options, choose_hardware(self._options.device, self._options.compute_type))
        return 2 * limits.threads * limits.file_batch

    def start(self) -> None:
        """See `ASRBackend`."""
        began = time.monotonic()
        hardware = choose_hardware(self._options.device, self._options.compute_type)
        limits = _limits(self._options, hardware)
        models = self._load(hardware, limits.threads)
        with self._lock:
            if not self._closed.is_set():
                self._models = models
                self._decoders = Decoders(limits, self._decode)
                self._decoders.start()
        if self._closed.is_set():
            models.unload()
            raise EngineError("the whisper backend was closed while it started")
        structlog.get_logger().info(
            "whisper_ready",
            model=self._options.model.name,
            device=hardware.device,
            compute_type=hardware.compute_type,
            threads=limits.threads,
            seconds=round(time.monotonic() - began, 1),
        )

    def healthy(self) -> bool:
        """See `ASRBackend`."""
        return self._decoders is not None and self._decoders.healthy()

    def stream(self, options: StreamOptions) -> WhisperStream:
        """See `ASRBackend`."""
        if self._decoders is None:
            raise EngineError("the whisper backend is not running")
        return WhisperStream(self._decoders, options)

    def close(self) -> None:
        """See `ASRBackend`; waits for running decodes, whose token limits bound them."""
        self._closed.set()
        with self._lock:
            decoders, models, self._models = self._decoders, self._models, None
        if decoders is not None:
            decoders.close()
        if models is not None:
            models.unload()

    def _load(self, hardware: Hardware, workers: int) -> _Models:
        final = self._warm(Model(self._options.model, hardware, workers))
        on_cpu = hardware.device == "cpu"
        draft = file = final
        # On a CPU, separate threads, so that the operating system runs finals before partials, and both before files.
        if self._options.draft_model is not None:
            niceness = PARTIAL_NICENESS if on_cpu else 0
            draft = self._warm(Model(self._options.draft_model, hardware, workers, niceness=niceness))
        elif on_cpu:
            draft = self._warm(final.replica(PARTIAL_NICENESS))
        if on_cpu:
            file = final.replica(FILE_NICENESS)  # not warmed up: that would be slow beside other programs
        return _Models(final, draft, file)

    def _warm(self, model: Model) -> Model:
        """Decode noise: the first decode allocates."""
        if self._closed.is_set():
            raise EngineError("the whisper backend was closed while it started")
        noise = np.random.default_rng(0).normal(0, 0.05, _WARM_UP_SECONDS * SAMPLE_RATE).astype(np.float32)
        decode_finals(model, [Request(noise, "en")], self._options.beam_size)
        return model

    def _decode(self, kind: Kind, requests: Sequence[Request]) -> list[Transcript]:
        models = self._models
        if models is None:
            raise EngineError("the whisper backend was closed")
        if kind is Kind.FINAL:
            return decode_finals(models.final, requests, self._options.beam_size)
        if kind is Kind.FILE:
            return decode_finals(models.file, requests, self._options.beam_size)
        found: dict[int, Transcript] = {}
        for model in {id(each): each for each in (models.draft, models.final)}.values():
            chosen = [index for index, request in enumerate(requests) if models.of_partial(request) is model]
            if chosen:
                transcripts = decode_partials(model, [requests[index] for index in chosen])
                found.update(zip(chosen, transcripts, strict=True))
        return [found[index] for index in range(len(requests))]


def _limits(options: WhisperOptions, hardware: Hardware) -> Limits:
    if hardware.device == "cpu":
        return Limits(options.threads or _cores())
    return Limits(options.threads or 1, GPU_LIVE_BATCH, GPU_FILE_BATCH)


def _cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
