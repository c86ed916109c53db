"""Creates engines by name. Only the chosen one is imported."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from backends.base import ASRBackend
from backends.qwen3 import preflight
from backends.qwen3.options import Qwen3Options
from backends.whisper.options import WhisperOptions


class BackendUnavailable(Exception):
    """The chosen backend cannot run on this machine. The text is one sentence that says what to set instead."""


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """The options of all engines. Each engine reads its own."""

    references: Path
    """Folder of the recordings that `mock` replays."""
    qwen3: Qwen3Options
    whisper: WhisperOptions


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """One backend, known without importing it."""

    create: Callable[[BackendOptions], ASRBackend]
    refusal: Callable[[], str | None] = lambda: None
    """Why it cannot run here, as one sentence that says what to do; None: it can. Fast."""


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def _mock(options: BackendOptions) -> ASRBackend:
    from backends.mock import MockBackend

    return MockBackend(options.references)


def _whisper(options: BackendOptions) -> ASRBackend:
    from backends.whisper.backend import WhisperBackend

    return WhisperBackend(options.whisper)


def _no_whisper() -> str | None:
    if installed("faster_whisper"):
        return None
    return "STT_BACKEND=whisper needs its extra: run `uv sync --extra whisper`, or set STT_BACKEND=mock."


def _qwen3(options: BackendOptions) -> ASRBackend:
    from backends.qwen3.backend import Qwen3Backend

    return Qwen3Backend(options.qwen3)


BACKENDS: Mapping[str, BackendSpec] = {
    "mock": BackendSpec(_mock),
    "qwen3": BackendSpec(_qwen3, preflight.refusal),
    "whisper": BackendSpec(_whisper, _no_whisper),
}

PLANNED = frozenset({"nemo"})
"""Engines that are planned and not in this version."""


def check(name: str) -> None:
    """Check that `name` can run on this machine, without importing anything heavy.

    Raises:
        BackendUnavailable: it cannot.
    """
    usable = " or ".join(f"STT_BACKEND={known}" for known in ("auto", *sorted(BACKENDS, reverse=True)))
    if name in PLANNED:
        raise BackendUnavailable(f"STT_BACKEND={name} is not in this version yet: set {usable}.")
    if name not in BACKENDS:
        raise BackendUnavailable(f"STT_BACKEND={name} is unknown: set {usable}.")
    refusal = BACKENDS[name].refusal()
    if refusal is not None:
        raise BackendUnavailable(refusal)


def create(name: str, options: BackendOptions) -> ASRBackend:
    """Build the backend `name`, not yet started; `check` has passed."""
    return BACKENDS[name].create(options)
