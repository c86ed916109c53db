from __future__ import annotations

import json

import pytest

from bench.common.recordings import Part, Recording
from bench.common.transcript import Utterance, group_by_part, parse, send_time

SENT = [100 + 0.02 * frame for frame in range(200)]
"""Frame k of the audio left at 100 s + 20 ms * k."""


def message(kind: str, **fields: object) -> bytes:
    return json.dumps({"type": kind} | fields).encode()


def final(text: str, start_ms: int, end_ms: int, reason: str = "endpoint") -> bytes:
    return message("final", segment_seq=0, text=text, start_ms=start_ms, end_ms=end_ms, reason=reason)


def utterance(start_ms: int, end_ms: int, text: str = "") -> Utterance:
    ((parsed,), _) = parse([(101.0, final(text, start_ms, end_ms))], [], 500)
    return parsed


def part(start_ms: int) -> Part:
    return Part(Recording("a", b"", "", "en"), start_ms, start_ms + 5000)


@pytest.mark.parametrize(("position_ms", "frame"), [(0, 0), (19, 0), (20, 1), (3999, 199)])
def test_send_time(position_ms: int, frame: int) -> None:
    """A sample left with the frame that holds it."""
    assert send_time(SENT, position_ms) == SENT[frame]


def test_not_sent() -> None:
    """A sample beyond the audio was never sent."""
    assert send_time(SENT, 4000) is None


@pytest.mark.parametrize(("end_ms", "frame"), [(1000, 74), (1010, 75)])
def test_endpoint_time(end_ms: int, frame: int) -> None:
    """An endpoint is timed from the frame whose last sample completes the silence."""
    ((one,), _) = parse([(103.0, final("one", 200, end_ms))], SENT, 500)
    assert one.endpoint_ms == pytest.approx((103.0 - SENT[frame]) * 1000)


def test_utterance() -> None:
    """Endpoint and first text are timed from the frames' departures, and revised words are counted to the final."""
    (spoken, committed), errors = parse(
        [
            (100.0, message("ready", session_id="a")),
            (100.9, message("partial", segment_seq=0, text="bright")),
            (101.2, message("partial", segment_seq=0, text="blue too")),
            (101.6, final("Blue sea here", 200, 1000)),
            (103.0, final("", 2000, 2000, "commit")),
        ],
        SENT,
        500,
    )
    assert spoken.endpoint_ms == pytest.approx((101.6 - SENT[74]) * 1000)
    assert spoken.first_partial_ms == pytest.approx((100.9 - SENT[10]) * 1000)
    assert (spoken.revised_words, spoken.words) == (2, 3)
    assert (committed.endpoint_ms, committed.first_partial_ms) == (None, None)
    assert errors == []


def test_errors() -> None:
    """A server's error is kept; so is its close without one, but a normal goodbye is none."""
    assert parse([(1.0, message("error", code=1008, message="idle"))], [], 500, 1008) == ([], ["1008 idle"])
    assert parse([], [], 500, 1011) == ([], ["closed with 1011"])
    assert parse([], [], 500, 1000) == ([], [])


def test_parts() -> None:
    """An utterance belongs to the recording that it overlaps the most, and to none where it overlaps none."""
    parts = [part(0), part(5000)]
    first, across, beyond = utterance(100, 900), utterance(4900, 6000), utterance(10_000, 10_000)
    assert [utterances for _, utterances in group_by_part([first, across, beyond], parts)] == [[first], [across]]
