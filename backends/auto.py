"""Chooses the engine for STT_BACKEND=auto, from facts about this machine, which are collected here too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import models
from backends import registry
from backends.qwen3 import preflight, weights
from models import Model

AUTO = "auto"
"""The value of STT_BACKEND that leaves the choice to the server."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts on which the choice depends."""

    gpu: bool
    """Whether there is an NVIDIA GPU with its driver."""
    qwen3_extra: bool
    """Whether qwen3's packages are installed."""
    qwen3_driver: bool
    """Whether the GPU and its driver are new enough for qwen3."""
    qwen3_weights: bool
    """Whether the weights of STT_VLLM_MODEL are on disk."""
    whisper_extra: bool
    """Whether whisper's packages are installed."""
    whisper_model: str | None
    """STT_WHISPER_MODEL; None: it is not set."""
    on_disk: tuple[Model, ...]
    """Whisper models on disk, least accurate first."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen engine, its model, and what would be better."""

    backend: str
    model: str | None
    """The model of whisper; None for other engines."""
    better: str | None
    """What would be better, and how to get it, as a clause; None: nothing."""

    @property
    def line(self) -> str:
        """The choice in one sentence."""
        taken = f"{self.backend} with the model {self.model}" if self.model else self.backend
        return f"STT_BACKEND={AUTO} chooses {taken}" + (f"; better: {self.better}." if self.better else ".")


def choose(facts: Facts) -> Choice:
    """The best engine that can run on this machine now; never `mock`.

    Raises:
        BackendUnavailable: none can; the text says what to do.
    """
    if facts.gpu and facts.qwen3_extra and facts.qwen3_driver and facts.qwen3_weights:
        return Choice("qwen3", None, None)
    if not facts.whisper_extra:
        raise registry.BackendUnavailable(
            f"STT_BACKEND={AUTO} finds no engine: run `uv sync --extra whisper` and `python -m models pull base`."
        )
    best = models.best(facts.on_disk, gpu=facts.gpu)
    name = facts.whisper_model or (best.name if best else None)
    if name is None:
        raise registry.BackendUnavailable(
            f"STT_BACKEND={AUTO} finds no Whisper model on this machine: run `python -m models pull base`, or set "
            "STT_WHISPER_MODEL to a model's folder."
        )
    return Choice("whisper", name, _better(facts, name))


def _better(facts: Facts, name: str) -> str | None:
    if facts.gpu:
        missing = [] if facts.qwen3_extra else ["its extra (`uv sync --extra qwen3`)"]
        missing += [] if facts.qwen3_driver else ["a newer driver or GPU"]
        missing += [] if facts.qwen3_weights else ["the weights of STT_VLLM_MODEL on disk"]
        return f"qwen3 on this machine's GPU, with {' and '.join(missing)}"
    best, taken = models.best(models.TABLE, gpu=False), models.find(name)
    if best is not None and taken is not None and _rank(best) > _rank(taken):
        return f"the model {best.name}, more accurate, {best.languages} languages (`python -m models pull {best.name}`)"
    return "qwen3, on a machine with an NVIDIA GPU"


def _rank(model: Model) -> int:
    return models.TABLE.index(model)


def facts(vllm_model: str, vllm_revision: str, whisper_model: str | None, model_dir: Path) -> Facts:
    """Examine this machine, without the network and without importing anything heavy.

    `whisper_model`: STT_WHISPER_MODEL; None: it is not set.
    """
    gpu, extra = preflight.gpu_count() > 0, registry.installed("vllm")
    return Facts(
        gpu=gpu,
        qwen3_extra=extra,
        qwen3_driver=gpu and (not extra or preflight.refusal() is None),
        qwen3_weights=gpu and weights.on_disk(vllm_model, vllm_revision),
        whisper_extra=registry.installed("faster_whisper"),
        whisper_model=whisper_model,
        on_disk=models.on_disk(model_dir),
    )
