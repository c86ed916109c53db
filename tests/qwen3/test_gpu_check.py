"""`make gpu-check` without a GPU: the command's parts, and its runs on vLLM's CPU build."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.qwen3.conftest import GPU_MEMORY, MODEL, model_is_tiny
from tests.server import ROOT
from tools.gpu_check import differences


def test_texts_are_compared_with_the_first_run() -> None:
    """A text that differs is reported with its run, its number of streams and its similarity."""
    runs: dict[str, Any] = {
        "V1": {"levels": [{"streams": 1, "texts": ["one two", "three"]}, {"streams": 4, "texts": ["one two"] * 1}]},
        "V2": {"levels": [{"streams": 4, "texts": ["one two", "three", "one too", "three"]}]},
        "failed": {"error": "out of memory"},
    }
    (found,) = differences(runs)
    assert (found.run, found.streams, found.utterance, found.expected, found.text) == ("V2", 4, 2, "one two", "one too")
    assert 0.8 < found.similarity < 1


@pytest.mark.skipif(not model_is_tiny(), reason="compares texts that bfloat16 may round differently")
def test_the_runs(tmp_path: Path) -> None:
    """With the runner that CPUs have, frozen or not and alone or not, all texts agree, and the engine restarts."""
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "tools.gpu_check", "--model", MODEL, "--gpu-memory", str(GPU_MEMORY)]
    command += ["--runners", "1", "--streams", "1,4", "--no-ramp", "--report", str(report)]
    ran = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    written = json.loads(report.read_text())
    assert ran.returncode == 0, written
    assert list(written["runs"]) == ["V1, windows frozen", "V1, windows not frozen"]
    for run in written["runs"].values():
        assert [level["streams"] for level in run["levels"]] == [1, 4]
        assert all(text for level in run["levels"] for text in level["texts"])
        assert run["restart_seconds"] > 0
