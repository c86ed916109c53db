"""Every tool end to end, with parameters so small that only its working is tested, not what it measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.report import table
from bench.server import stt_settings
from tests.server import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the bench tools need Linux")

SMALL = ["--streams", "2", "--rounds", "1", "--seconds", "1", "--warm", "0.2"]
RUNS = {
    "overhead": ["overhead", *SMALL],
    "against": ["overhead", *SMALL, "--against", str(ROOT)],
    "connect-rate": ["overhead", "--connect-rate", "--rounds", "1", "--seconds", "0.3"],
    "ramp": ["ramp", "--levels", "4", "--seconds", "3", "--warm", "0", "--slo-ms", "1000"],
    "accuracy": ["accuracy", "--speed", "12"],
}
Tool = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    """Starts all runs at once, for they mostly wait, and returns one's JSON when it is done."""
    folder = tmp_path_factory.mktemp("bench")
    started = {
        name: subprocess.Popen(
            [sys.executable, "-m", f"bench.{module}", "--json", str(folder / name), *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, (module, *arguments) in RUNS.items()
    }

    def done(name: str) -> dict[str, Any]:
        out, errors = started[name].communicate(timeout=100)
        assert started[name].returncode == 0, errors
        assert out.strip()
        ran: dict[str, Any] = json.loads((folder / name).read_text())
        assert ran["tool"] == RUNS[name][0]
        assert ran["versions"]["uvicorn"]
        return ran

    yield done
    for process in started.values():
        process.terminate()
        process.communicate()


def test_overhead(tool: Tool) -> None:
    """Server and bare socket are measured in turn, and every stream has one thread at most."""
    ran = tool("overhead")
    assert [sample["target"] for sample in ran["samples"]] == ["bare", "server"]
    (row,) = ran["rows"]
    assert row["bare_cpu_ms"] > 0
    assert (row["dropped"], row["errors"]) == (0, 0)
    assert row["threads"] <= 1


def test_overhead_of_another_version(tool: Tool) -> None:
    """It is a server that has the bare socket's place, with a thread for each stream."""
    (row,) = (ran := tool("against"))["rows"]
    assert [sample["threads_per_stream"] for sample in ran["samples"]] == [1, 1]
    assert row["errors"] == 0


def test_connect_rate(tool: Tool) -> None:
    """Connections come and go without an error, and leave no thread."""
    (row,) = tool("connect-rate")["rows"]
    assert row["server_per_second"] > 0
    assert (row["errors"], row["left_threads"]) == (0, 0)


def test_ramp(tool: Tool) -> None:
    """Each level has its times and its word error rate, which for the mock is 0."""
    (level,) = tool("ramp")["levels"]
    assert level["errors"] == []
    assert level["endpoint_ms"]["count"] > 0
    assert (level["wer"]["wer"], level["wer"]["words"] > 0) == (0, True)


def test_accuracy(tool: Tool) -> None:
    """The mock says every reference's words, streamed and over HTTP, and finds every pause."""
    streamed, http = tool("accuracy")["hearings"]
    assert (streamed["wer"]["wer"], http["wer"]["wer"]) == (0, 0)
    facts = streamed["facts"]
    assert (facts["endpoints_found"], facts["endpoints_extra"], facts["dropped"]) == (3, 0, 0)


def test_table() -> None:
    """Columns line up, and what was not measured is a dash."""
    assert table([{"a": 1, "bb": None}, {"a": 10.5, "bb": "x"}]) == "   a  bb\n   1   -\n10.5   x"


def test_settings() -> None:
    """Extra settings are NAME=VALUE, with or without the prefix."""
    settings = stt_settings("mock", 9, ["VAD_SILENCE_MS=400", "STT_IDLE_SECONDS=0"])
    assert (settings["STT_VAD_SILENCE_MS"], settings["STT_IDLE_SECONDS"], settings["STT_MAX_SESSIONS"]) == (
        "400",
        "0",
        "9",
    )
    with pytest.raises(SystemExit, match="NAME=VALUE"):
        stt_settings("mock", 9, ["VAD_SILENCE_MS"])
