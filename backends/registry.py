"""Backend names -> engines, imported only when chosen."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from backends.base import ASRBackend
from backends.pocketsphinx.options import PocketsphinxOptions


class BackendUnavailable(Exception):
    """The chosen backend cannot run here; the text is one plain sentence that says what to set instead."""


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """Every engine's own options; an engine reads its own only."""

    references: Path
    """Folder of the recordings that `mock` replays."""
    pocketsphinx: PocketsphinxOptions


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """One backend, known without importing it."""

    create: Callable[[BackendOptions], ASRBackend]
    extra: str | None = None
    """Package extra that installs it, which is also the name it imports; None: part of the core."""


def _mock(options: BackendOptions) -> ASRBackend:
    from backends.mock import MockBackend

    return MockBackend(options.references)


def _pocketsphinx(options: BackendOptions) -> ASRBackend:
    from backends.pocketsphinx.backend import PocketsphinxBackend

    return PocketsphinxBackend(options.pocketsphinx)


BACKENDS: Mapping[str, BackendSpec] = {
    "mock": BackendSpec(_mock),
    "pocketsphinx": BackendSpec(_pocketsphinx, extra="pocketsphinx"),
}

PLANNED = frozenset({"qwen3", "whisper", "nemo"})
"""Names the roadmap promises and this version does not have."""


def check(name: str) -> None:
    """Cheap look at whether `name` can run here: nothing heavy is imported.

    Raises:
        BackendUnavailable: it cannot.
    """
    usable = " or ".join(f"STT_BACKEND={known}" for known in sorted(BACKENDS, reverse=True))
    if name in PLANNED:
        raise BackendUnavailable(f"STT_BACKEND={name} is not in this version yet: set {usable}.")
    if name not in BACKENDS:
        raise BackendUnavailable(f"STT_BACKEND={name} is unknown: set {usable}.")
    extra = BACKENDS[name].extra
    if extra is not None and importlib.util.find_spec(extra) is None:
        raise BackendUnavailable(
            f"STT_BACKEND={name} needs its extra: run `uv sync --extra {extra}`, or set STT_BACKEND=mock."
        )


def create(name: str, options: BackendOptions) -> ASRBackend:
    """Build the backend `name`, not yet started; `check` has passed."""
    return BACKENDS[name].create(options)
