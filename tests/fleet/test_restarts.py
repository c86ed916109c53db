"""Streams of the client library live through restarts of every server behind HAProxy."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

import pytest

from bench.common.recordings import load
from tests.fleet.programs import needs_haproxy
from tests.fleet.restarted_streams import Call, converse_during
from tools.fleet.processes import SERVERS, Fleet, FleetPorts

STREAMS = 100
RECORDINGS = load(Path(__file__).parents[2] / "references", single=True)


def _differences(call: Call) -> list[object]:
    """What was said and what came, for the message of a failed test."""
    return [[each.text for each in call.spoken], call.finals, call.lost_ms]


def show(text: str) -> None:
    """Show it though the test passes; on stderr, which pytest's worker processes share."""
    sys.stderr.write(f"\n{text}\n")


def restart_all_under_streams(folder: Path, number: signal.Signals) -> str:
    """Restart every server once under `STREAMS` live streams, and check each stream; what the gaps were."""
    with Fleet(folder, FleetPorts.free(), [{"STT_BACKEND": "mock"}] * SERVERS) as fleet:
        began = time.monotonic()
        calls = asyncio.run(converse_during(lambda: fleet.restart_all(number), [fleet.url], STREAMS, RECORDINGS))
        seconds = time.monotonic() - began
    assert [_differences(call) for call in calls if not call.exact] == []
    gaps = sorted(gap for call in calls for gap in call.gaps)
    # Each server had a third of the streams or more when it was ended.
    assert len(gaps) >= STREAMS
    utterances = sum(len(call.spoken) for call in calls)
    return (
        f"{number.name}: {utterances} utterances of {STREAMS} streams in {seconds:.0f} s exact; {len(gaps)} gaps, "
        f"{1000 * gaps[len(gaps) // 2]:.0f} ms in the middle, the longest {1000 * gaps[-1]:.0f} ms"
    )


@needs_haproxy
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_restarts_of_all_servers_cost_no_word(
    folder: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 100 live streams each utterance has one final, whole and in its place, while every server restarts."""
    summary = restart_all_under_streams(folder, number)
    with capsys.disabled():
        show(summary)


@needs_haproxy
@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_ten_times_in_a_row(folder: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    """The same ten times in a row."""
    for _ in range(10):
        summary = restart_all_under_streams(folder, number)
        with capsys.disabled():
            show(summary)
