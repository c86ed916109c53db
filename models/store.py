"""The models on this machine: a folder for each, with a manifest. Uses no network."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import ModelMissing, UnknownModel
from models.table import TABLE, Algorithm, File, Model, find

_MANIFEST = "manifest.json"
_NEEDED = ("config.json", "tokenizer.json", "model.bin")
"""Files that a model's folder must have. Without the tokenizer faster-whisper would fetch one."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    size: int
    digest: str
    algorithm: Algorithm


class Manifest(BaseModel):
    """The contents of a model's folder, as a file in it."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    name: str
    licence: str
    repository: str
    revision: str
    source: str
    """Where the files came from."""
    files: tuple[_Entry, ...]


def default_model_dir() -> Path:
    """The folder of models in the user's cache folder, as the operating system has it."""
    return platformdirs.user_cache_path("realtime-stt-ws", appauthor=False) / "models"


def folder(name: str, model_dir: Path) -> Path:
    """Where the model `name` is kept, whether it is there or not."""
    return model_dir / name


def path(name: str, model_dir: Path) -> Path | None:
    """The folder of the model `name` of the table; None: it is not complete, or of another revision.

    Only sizes are compared. Checksums were checked before the folder got its name.
    """
    model = find(name)
    there = folder(name, model_dir)
    manifest = _read_manifest(there)
    if model is None or manifest is None or manifest.revision != model.revision:
        return None
    return there if all(_size(there / entry.name) == entry.size for entry in manifest.files) else None


def locate(name: str, model_dir: Path) -> Path:
    """The folder of a model, given by its name in the table or by its path.

    Raises:
        ModelMissing: it is not on this machine.
        UnknownModel: the name is neither in the table nor the path of a model's folder.
    """
    if find(name) is not None:
        there = path(name, model_dir)
        if there is None:
            raise ModelMissing(f"The model {name} is not on this machine: run `python -m models pull {name}`.")
        return there
    own = Path(name).expanduser()
    if name and all((own / needed).is_file() for needed in _NEEDED):
        return own
    raise UnknownModel(
        f"{name!r} is neither a model of `python -m models list` nor a folder with {', '.join(_NEEDED)}."
    )


def on_disk(model_dir: Path) -> tuple[Model, ...]:
    """The table's models that are complete in `model_dir`, in the table's order."""
    return tuple(model for model in TABLE if path(model.name, model_dir) is not None)


def remove(name: str, model_dir: Path) -> bool:
    """Delete the model `name` of the table and unfinished downloads of it; False: there was nothing.

    Waits for a running download of it.

    Raises:
        UnknownModel: the table has no such model.
        OSError: a file cannot be deleted.
    """
    model = find(name)
    if model is None:
        raise UnknownModel(f"{name!r} is not a model of `python -m models list`.")
    found = False
    if model_dir.is_dir():
        with lock(name, model_dir):
            for each in (folder(name, model_dir), unfinished(model, model_dir), wheels(model, model_dir)):
                if each.is_dir():
                    shutil.rmtree(each)
                    found = True
    return found


def unfinished(model: Model, model_dir: Path) -> Path:
    """Folder of a download until the model is complete; on the same disk, so that it can be renamed."""
    return model_dir / f".{model.name}-{model.revision[:8]}.part"


def wheels(model: Model, model_dir: Path) -> Path:
    """Folder of wheels while the model's files are extracted."""
    return model_dir / f".{model.name}-{model.revision[:8]}.wheels"


def lock(name: str, model_dir: Path) -> AbstractContextManager[object]:
    """A lock for the model, across threads and processes."""
    from filelock import FileLock

    return FileLock(model_dir / f".{name}.lock")


def complete(model: Model, files: Iterable[File], source: str, model_dir: Path) -> Path:
    """Write the manifest, and give the folder its final name. All files were checked before.

    Raises:
        OSError: the disk refuses.
    """
    part, there = unfinished(model, model_dir), folder(model.name, model_dir)
    manifest = Manifest(
        name=model.name,
        licence=model.licence,
        repository=model.repository,
        revision=model.revision,
        source=source,
        files=tuple(
            _Entry(name=file.name, size=file.size, digest=file.digest, algorithm=file.algorithm) for file in files
        ),
    )
    (part / _MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if there.exists():
        shutil.rmtree(there)
    part.rename(there)
    return there


def _read_manifest(there: Path) -> Manifest | None:
    try:
        return Manifest.model_validate_json((there / _MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else -1
