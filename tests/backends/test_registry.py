"""Backends by name: what can run, and what a user is told where it cannot."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from backends.qwen3.options import Qwen3Options
from backends.registry import BACKENDS, PLANNED, BackendOptions, BackendUnavailable, check, create
from backends.whisper.options import WhisperOptions

USABLE = "set STT_BACKEND=auto or STT_BACKEND=whisper or STT_BACKEND=qwen3 or STT_BACKEND=mock"


def refusal(name: str) -> str:
    with pytest.raises(BackendUnavailable) as caught:
        check(name)
    return str(caught.value)


def test_mock_needs_nothing() -> None:
    """`mock` passes the check wherever the server runs."""
    check("mock")


@pytest.mark.parametrize("name", sorted(PLANNED))
def test_planned(name: str) -> None:
    """A backend of the roadmap is refused with what to set instead."""
    assert refusal(name) == (f"STT_BACKEND={name} is not in this version yet: {USABLE}.")


@pytest.mark.parametrize("name", ["", "Mock", "whisperr"])
def test_unknown(name: str) -> None:
    """Any other name is refused with the names there are."""
    assert refusal(name) == (f"STT_BACKEND={name} is unknown: {USABLE}.")


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend whose package is not installed is refused with the command that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert refusal("whisper") == (
        "STT_BACKEND=whisper needs its extra: run `uv sync --extra whisper`, or set STT_BACKEND=mock."
    )


def test_planned_and_present_are_apart() -> None:
    """No name is both promised and there."""
    assert not PLANNED & BACKENDS.keys()


def test_create_builds_without_starting() -> None:
    """`create` gives the backend of that name, which reads nothing and is not healthy before it is started."""
    backend = create("mock", BackendOptions(Path("nowhere"), Qwen3Options(), WhisperOptions(Path())))
    assert backend.name == "mock"
    assert not backend.healthy()


def test_checking_imports_no_engine() -> None:
    """Knowing every backend, and checking one, imports neither an engine nor its module."""
    code = (
        "import sys; from backends.registry import check; check('mock'); "
        "heavy = ('faster_whisper', 'ctranslate2', 'vllm', 'torch'); "
        "heavy += ('backends.mock', 'backends.qwen3.backend', 'backends.whisper.backend'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
