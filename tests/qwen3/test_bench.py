"""The load test of the engine, end to end; its numbers for the tiny shape mean nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.processes import ending
from tests.server import ROOT


def test_the_tiny_shape(tmp_path: Path) -> None:
    """The command serves live streams with random weights and reports the times of refreshes and finals by part."""
    command = [sys.executable, "-m", "bench.engine", "qwen3-capacity", "--shape", "tiny"]
    command += ["--levels", "2", "--seconds", "8", "--warm", "2", "--utterances", "3", "--limit-ms", "60000"]
    command += ["--json", str(tmp_path / "ran")]
    with ending(subprocess.Popen(command, cwd=ROOT)) as bench:  # the bench ends its server
        bench.wait()
    assert bench.returncode == 0
    ran = json.loads((tmp_path / "ran").read_text())

    (level,), (decodes,) = ran["levels"], ran["decodes"]
    assert (ran["shape"], ran["capacity"]) == ("tiny", 2)
    assert (level["errors"], level["dropped"]) == ([], 0)
    assert level["endpoint_ms"]["count"] > 0
    for purpose in ("refresh", "final"):
        assert set(decodes[purpose]["mean_ms"]) == {"waiting", "rendering", "decoding"}
        assert decodes[purpose]["mean_ms"]["decoding"] > 0
    assert decodes["refresh"]["ms"]["count"] > decodes["final"]["ms"]["count"] > 0
