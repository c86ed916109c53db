"""Who sends faster than real time; every time is given."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from transport.client_pace import ClientPace


def ahead_after(messages: Iterable[tuple[float, float, float]]) -> bool:
    """Whether a client is ahead after messages of (seconds, read at, waited for)."""
    pace = ClientPace()
    for seconds, now, waited in messages:
        pace.received(seconds, now, waited, 0.0)
    return pace.ahead


def live(seconds: float, first: float, message: float = 0.02) -> list[tuple[float, float, float]]:
    return [(message, first + number * message, message) for number in range(int(seconds / message))]


@pytest.mark.parametrize("message", [0.0027, 0.02, 0.1, 1.0, 2.0])
def test_a_live_client(message: float) -> None:
    """However long its messages are."""
    assert not ahead_after(live(60, 100.0, message))


def test_a_late_network() -> None:
    """A burst after a stall of 10 s holds no more than was spoken meanwhile."""
    burst = [(0.02, 115.0, 0.0)] * 500
    assert not ahead_after([*live(5, 100.0), *burst, *live(5, 115.0)])


def test_a_clock_that_drifts() -> None:
    """A sound card that is 1 % fast is live for minutes."""
    assert not ahead_after((0.0202, 100 + number * 0.02, 0.02) for number in range(9000))


def test_a_file_sent_unpaced() -> None:
    """From 2 s more audio than time on."""
    assert not ahead_after([(0.02, 100.0, 0.0)] * 100)
    assert ahead_after([(0.02, 100.0, 0.0)] * 102)


def test_live_again() -> None:
    """Once its socket was empty for 1 s; a shorter wait is not enough."""
    file = [(0.02, 100.0, 0.0)] * 500
    assert ahead_after([*file, (0.02, 100.9, 0.9)])
    assert not ahead_after([*file, (0.02, 101.0, 1.0), *live(60, 101.02)])
    assert ahead_after([*file, (0.02, 101.0, 1.0), *file])


@pytest.mark.parametrize(
    ("length", "gap", "blocked_seconds", "resumes"),
    [
        (0.02, 0.02, 0, False),
        (0.02, 0.11, 0, False),
        (0.02, 0.2, 0, True),
        (1.0, 1.0, 0, False),
        (1.0, 1.2, 0, True),
        (0.02, 2.0, 1.95, False),
        (0.02, 2.0, 1.0, True),
        (0.02, 1.0, 0.5, True),
    ],
)
def test_a_pause(length: float, gap: float, blocked_seconds: float, resumes: bool) -> None:
    """Longer than the message's own length and the network's jitter; a time of a blocked event loop is none."""
    pace = ClientPace()
    pace.received(length, 100.0, 0.0, 7.0)
    assert pace.resumes
    pace.received(length, 100.0 + gap, gap, 7.0 + blocked_seconds)
    assert pace.resumes is resumes
