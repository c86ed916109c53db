"""The load test of the engine, end to end; what it measures on a tiny shape means nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.qwen3.conftest import MODEL, is_tiny
from tests.server import ROOT


@pytest.mark.skipif(not is_tiny(), reason="the shapes are completed from the tiny checkpoint")
def test_the_tiny_shape(tmp_path: Path) -> None:
    """Live streams are served by dummy weights, and the times of refreshes and finals are told by part."""
    command = [sys.executable, "-m", "bench.engine", "qwen3-capacity", "--shape", "tiny", "--tiny", MODEL]
    command += ["--levels", "2", "--seconds", "8", "--warm", "2", "--utterances", "3", "--limit-ms", "60000"]
    command += ["--json", str(tmp_path / "ran")]
    with subprocess.Popen(command, cwd=ROOT) as bench:
        try:
            bench.wait()
        finally:
            bench.terminate()  # and with it its server, should the test be out of time
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
