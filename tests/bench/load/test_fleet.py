"""`python -m bench.load fleet` end to end; what it measures is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleet.programs import needs_haproxy
from tests.server import ROOT


@needs_haproxy
@pytest.mark.slow
def test_the_report_has_gaps_places_and_the_cost_of_the_proxy(tmp_path: Path) -> None:
    """With a few streams, all are exact, all places are taken, and both paths have a cost."""
    report = tmp_path / "fleet.json"
    command = [sys.executable, "-m", "bench.load", "fleet", "--streams", "6", "--seconds", "8", "--json", str(report)]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

    tables = json.loads(report.read_text())
    for row in tables["restarts"]:
        exact, total = row["exact"].split(" of ")
        assert exact == total
        assert row["gaps"] >= row["streams"]
        assert 0 < row["p50"] <= row["max"]
    assert [row["path"] for row in tables["cost"]] == ["direct", "HAProxy"]
    assert all(row["servers_ms"] > 0 for row in tables["cost"])
    assert tables["places"] == [{"places": "1 + 2 + 3", "asked": 16, "placed": 6, "refused": 10}]
