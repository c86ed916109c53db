"""The load test of the engine, end to end; what it measures on a tiny shape means nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.qwen3.conftest import MODEL, is_tiny
from tests.server import ROOT


@pytest.mark.skipif(not is_tiny(), reason="the shapes are completed from the tiny checkpoint")
def test_the_tiny_shape() -> None:
    """Live streams are served by dummy weights, and the times of refreshes and finals are told by part."""
    command = [sys.executable, "-m", "bench.engine", "--shape", "tiny", "--tiny", MODEL, "--levels", "2"]
    command += ["--seconds", "8", "--warm", "2", "--utterances", "3", "--slo-ms", "60000"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as bench:
        try:
            out, _ = bench.communicate()
        finally:
            bench.terminate()  # and it its server, should the test be out of time
    assert bench.returncode == 0
    ran = json.loads(out)

    (level,) = ran["levels"]
    assert (ran["shape"], ran["capacity"]) == ("tiny", 2)
    assert (level["errors"], level["dropped"]) == ([], 0)
    assert level["endpoint_ms"]["count"] > 0
    for purpose in ("refresh", "final"):
        assert set(level["where"][f"{purpose}_ms"]) == {"waiting", "rendering", "engine"}
        assert level["where"][f"{purpose}_ms"]["engine"] > 0
    assert level["refresh_ms"]["count"] > level["final_decode_ms"]["count"] > 0
    assert level["where"]["cores"]["engine_processes"] > 0
    assert level["where"]["event_loop_late_ms"]["count"] > 0
