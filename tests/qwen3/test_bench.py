"""The load test of the engine, end to end; its numbers for the tiny shape mean nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.qwen3.conftest import MODEL, model_is_tiny
from tests.server import ROOT


@pytest.mark.skipif(not model_is_tiny(), reason="the shapes are completed from the tiny checkpoint")
def test_the_tiny_shape() -> None:
    """The load test serves live streams with dummy weights and reports the times of refreshes and finals by part."""
    command = [sys.executable, "-m", "bench.engine", "--shape", "tiny", "--tiny", MODEL, "--levels", "2"]
    command += ["--seconds", "8", "--warm", "2", "--utterances", "3", "--slo-ms", "60000"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as bench:
        try:
            out, _ = bench.communicate()
        finally:
            bench.terminate()  # a test that is out of time must end the bench, which ends its server
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
