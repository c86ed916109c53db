"""Whether the model's weights are on this machine; imports nothing heavy and asks no network."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

_INDEX = "model.safetensors.index.json"


def on_disk(model: str, revision: str = "") -> bool:
    """Whether `model`, a name on the Hugging Face hub or a folder, is complete in the hub's cache or in its folder.

    `revision` is a branch, tag or commit of a name; empty: the hub's default branch.
    """
    folder = Path(model) if Path(model).is_dir() else _cached(model, revision)
    return folder is not None and (folder / "config.json").is_file() and _has_weights(folder)


def _cached(model: str, revision: str) -> Path | None:
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - comes with an engine's extra

    try:
        return Path(snapshot_download(model, revision=revision or None, local_files_only=True))
    except (OSError, ValueError):  # not in the cache; no name of a repository
        return None


def _has_weights(folder: Path) -> bool:
    """All parts that the index names, or the one file of a small model."""
    try:
        parts = set(json.loads((folder / _INDEX).read_bytes())["weight_map"].values())
    except FileNotFoundError:
        parts = {"model.safetensors"}
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return all((folder / part).is_file() for part in parts)
