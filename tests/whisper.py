"""Real weights and recordings for the tests of whisper."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import models
from backends.mock import read_recording
from protocol.pcm import Signal

REFERENCES = Path(__file__).resolve().parents[1] / "references"


def model_folder(name: str) -> Path:
    """Where the weights of `name` are; a run without them fails."""
    root = Path(os.environ.get("STT_MODEL_DIR", models.default_model_dir()))
    folder = models.path(name, root)
    if folder is None:
        pytest.fail(f"the model {name} is not in {root}: run `python -m models pull {name}`, or set STT_MODEL_DIR")
    return folder


def recording(name: str) -> Signal:
    """A recording of references/."""
    return read_recording(REFERENCES / f"{name}.wav")[0]
