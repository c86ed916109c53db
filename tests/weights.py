"""Whisper's real weights, which `make test` fetches before the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import models


def model_dir() -> Path:
    """Where the weights are: the folder of the user who runs the tests, unless STT_MODEL_DIR names another."""
    return Path(os.environ.get("STT_MODEL_DIR") or models.default_model_dir())


def weights(name: str) -> Path:
    """The folder of a model; a run without it fails."""
    there = models.path(name, model_dir())
    if there is None:
        pytest.fail(f"the model {name} is not here: run `make test`, or `python -m models pull {name}`")
    return there


def settings_of(name: str) -> dict[str, str]:
    """Settings of a server that runs whisper with this model."""
    weights(name)
    return {"STT_BACKEND": "whisper", "STT_WHISPER_MODEL": name, "STT_MODEL_DIR": str(model_dir())}
