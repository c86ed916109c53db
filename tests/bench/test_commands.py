"""Each command end to end, with small parameters: it is tested that it works, not what it measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.processes import ending
from tests.server import ROOT

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the bench tools need Linux"),
    pytest.mark.slow,
]

SMALL = ["--streams", "2", "--rounds", "1", "--seconds", "1", "--warm", "0.2"]
RUNS = {
    "overhead": ["load", "overhead", *SMALL],
    "contended": ["load", "contended", *SMALL, "--against", str(ROOT), "--busy", "1"],
    "uploads": ["load", "uploads", *SMALL, "--file-seconds", "20"],
    "connects": ["load", "connects", "--rounds", "1", "--seconds", "0.3"],
    "ramp": ["load", "ramp", "--levels", "4", "--seconds", "3", "--warm", "0", "--limit-ms", "1000"],
    "accuracy": ["accuracy", "--speed", "12"],
    "cost": ["engine", "cost", "--seconds", "1", "--file-seconds", "2"],
}
Tool = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    """Starts all runs at once, for they mostly wait, and returns one's JSON when it is done."""
    folder = tmp_path_factory.mktemp("bench")
    processes: dict[str, subprocess.Popen[str]] = {}

    def wait(name: str) -> dict[str, Any]:
        out, errors = processes[name].communicate()
        assert processes[name].returncode == 0, errors
        assert out.strip()
        report: dict[str, Any] = json.loads((folder / name).read_text())
        assert report["tool"].split() == RUNS[name][: len(report["tool"].split())]
        assert report["versions"]["uvicorn"]
        return report

    with ExitStack() as stack:
        for name, (package, *arguments) in RUNS.items():
            command = [sys.executable, "-m", f"bench.{package}", *arguments, "--json", str(folder / name)]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            processes[name] = stack.enter_context(ending(process))
        yield wait


def test_overhead(tool: Tool) -> None:
    """Server and bare socket are measured in turn, and each stream has one thread at most."""
    report = tool("overhead")
    assert [window["target"] for window in report["windows"]] == ["baseline", "server"]
    baseline, server = report["rows"]
    assert (baseline["finals"], server["ratio"] is None or server["ratio"] > 0) == (0, True)
    assert (server["dropped"], server["errors"]) == (0, 0)
    assert server["threads"] <= 1


def test_uploads(tool: Tool) -> None:
    """The streams are measured alone and beside uploads, without a drop."""
    rows = tool("uploads")["rows"]
    assert [row["target"] for row in rows] == ["alone", "uploads"]
    assert [(row["dropped"], row["errors"]) for row in rows] == [(0, 0), (0, 0)]


def test_contended(tool: Tool) -> None:
    """Two versions of the server are measured beside a busy core, without a drop."""
    rows = tool("contended")["rows"]
    assert [row["target"] for row in rows] == ["before", "server"]
    assert [(row["dropped"], row["errors"]) for row in rows] == [(0, 0), (0, 0)]


def test_connects(tool: Tool) -> None:
    """Connections open and close without an error."""
    rows = tool("connects")["rows"]
    assert [(row["target"], row["per_second"] > 0, row["errors"]) for row in rows] == [
        ("bare", True, 0),
        ("server", True, 0),
    ]


def test_ramp(tool: Tool) -> None:
    """Each level has its times and its word error rate, which for the mock is 0."""
    (level,) = tool("ramp")["levels"]
    assert level["errors"] == []
    assert level["endpoint_ms"]["count"] > 0
    assert (level["wer"]["wer"], level["wer"]["words"] > 0) == (0, True)


def test_accuracy(tool: Tool) -> None:
    """The mock's text of each reference is right, streamed and over HTTP."""
    report = tool("accuracy")
    assert [(row["way"], row["wer"], row["words"] > 0) for row in report["rows"]] == [
        ("streamed", 0, True),
        ("http", 0, True),
    ]
    assert report["rows"][0]["dropped"] == 0
    assert not [each for each in report["problems"] if each.startswith("http")]


def test_cost(tool: Tool) -> None:
    """Live streams and a file have their CPU; the mock's engine costs nothing beyond itself."""
    (row,) = tool("cost")["rows"]
    assert (row["engine_cpu"], row["file_speed"] > 0, row["start_s"] > 0) == (0, True, True)
