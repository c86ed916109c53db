from __future__ import annotations

import json

import pytest

from bench.audio import Clip, Part
from bench.conversation import Endpoints, Utterance, endpoint_sent_at, endpoints, read, sent_at, within

SENT = [100 + 0.02 * frame for frame in range(200)]
"""Frame k of the audio left at 100 s + 20 ms * k."""


def message(kind: str, **fields: object) -> bytes:
    return json.dumps({"type": kind} | fields).encode()


def final(text: str, start_ms: int, end_ms: int, reason: str = "endpoint") -> bytes:
    return message(
        "final", text=text, start_ms=start_ms, end_ms=end_ms, reason=reason, latency_ms=7, first_token_ms=300
    )


def utterance(start_ms: int, end_ms: int, text: str = "") -> Utterance:
    (read_back,) = read([(101.0, final(text, start_ms, end_ms))], [], 500).utterances
    return read_back


def part(segments: tuple[tuple[int, int], ...] = (), utterances: int | None = None, start_ms: int = 0) -> Part:
    return Part(Clip("a", b"", "", "en", utterances, segments), start_ms, start_ms + 5000)


@pytest.mark.parametrize(("position_ms", "frame"), [(0, 0), (19, 0), (20, 1), (3999, 199)])
def test_sent_at(position_ms: int, frame: int) -> None:
    """A sample left with the frame that holds it."""
    assert sent_at(SENT, position_ms) == SENT[frame]


def test_not_sent() -> None:
    """A sample beyond the audio was never sent."""
    assert sent_at(SENT, 4000) is None


def test_endpoint_clock() -> None:
    """An endpoint is complete with the frame whose last sample completes the silence, not with the one after it."""
    assert endpoint_sent_at(SENT, 1000, 500) == SENT[74]
    assert endpoint_sent_at(SENT, 1000, 510) == SENT[75]


def test_utterance() -> None:
    """Endpoint and first text are timed from the frames' departures, and revised words are counted to the final."""
    said = read(
        [
            (100.0, message("ready")),
            (100.9, message("partial", text="won")),
            (101.2, message("partial", text="one too")),
            (101.6, final("One two three", 200, 1000)),
            (103.0, final("", 2000, 2000, "commit")),
        ],
        SENT,
        500,
    )
    spoken, committed = said.utterances
    assert spoken.endpoint_ms == pytest.approx((101.6 - SENT[74]) * 1000)
    assert spoken.first_partial_ms == pytest.approx((100.9 - SENT[10]) * 1000)
    assert (spoken.while_speaking, spoken.revised_words, spoken.words) == (True, 2, 3)
    assert (committed.endpoint_ms, committed.first_partial_ms, committed.while_speaking) == (None, None, False)
    assert said.errors == []


def test_errors() -> None:
    """A server's error is kept; so is its close without one, but a normal goodbye is none."""
    assert read([(1.0, message("error", code=1008, message="idle"))], [], 500, 1008).errors == ["1008 idle"]
    assert read([], [], 500, 1011).errors == ["closed with 1011"]
    assert read([], [], 500, 1000).errors == []


def test_parts() -> None:
    """An utterance belongs to the recording that it overlaps the most, and to none where it overlaps none."""
    parts = [part(start_ms=0), part(start_ms=5000)]
    first, across, beyond = utterance(100, 900), utterance(4900, 6000), utterance(10_000, 10_000)
    assert [heard for _, heard in within([first, across, beyond], parts)] == [[first], [across]]


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(0, 1000), (2000, 3000), (4000, 5000)], Endpoints(2, 2, 0)),
        ([(0, 3000), (4000, 5000)], Endpoints(2, 1, 0)),
        ([(0, 5000)], Endpoints(2, 0, 0)),
        ([(0, 400), (700, 1000), (2000, 5000)], Endpoints(2, 1, 1)),
        ([], Endpoints(2, 0, 0)),
    ],
)
def test_endpoints(spans: list[tuple[int, int]], expected: Endpoints) -> None:
    """A pause counts as found where no utterance spans it; an end within a segment is extra."""
    composed = part(((0, 1000), (2000, 3000), (4000, 5000)), start_ms=10_000)
    heard = [utterance(start + 10_000, end + 10_000) for start, end in spans]
    assert endpoints(heard, composed) == expected


def test_endpoints_by_number() -> None:
    """Where only the number of utterances is known, only the number is compared."""
    spoken = [utterance(0, 1000), utterance(2000, 3000)]
    assert endpoints(spoken, part(utterances=3)) == Endpoints(2, 1, 0)
    assert endpoints(spoken, part(utterances=1)) == Endpoints(0, 0, 1)
