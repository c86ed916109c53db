"""Sample positions to arrival times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inference.arrivals import Arrivals
from protocol.pcm import samples_of


def arrivals_of(*notes: tuple[int, float]) -> Arrivals:
    arrivals = Arrivals()
    for end, arrived in notes:
        arrivals.note(end, arrived)
    return arrivals


def test_each_message() -> None:
    """All samples before a position had arrived with the message that holds the last of them."""
    arrivals = arrivals_of((320, 1.0), (640, 2.0), (960, 3.0))
    assert [arrivals.of(position) for position in (1, 320, 321, 640, 641, 960)] == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]


def test_beyond_the_newest() -> None:
    """A position that nothing has reached has the newest arrival."""
    assert arrivals_of((320, 1.0)).of(400) == 1.0


def test_long_message_keeps_what_came_before() -> None:
    """A message of 8 s does not make the ones before it forgotten: they may not have been heard yet."""
    arrivals = arrivals_of((320, 1.0), (640, 2.0), (640 + samples_of(8000), 9.0))
    assert [arrivals.of(position) for position in (320, 640, 641)] == [1.0, 2.0, 9.0]


def test_gap() -> None:
    """Dropped audio arrived with the message after it."""
    arrivals = arrivals_of((320, 1.0), (samples_of(60_000), 9.0))
    assert [arrivals.of(position) for position in (320, 321, samples_of(30_000))] == [1.0, 9.0, 9.0]


def test_last_six_seconds() -> None:
    """6 s of messages of 20 ms are remembered exactly, the search for a cut included."""
    arrivals = arrivals_of(*((320 * number, float(number)) for number in range(1, 1001)))
    assert [arrivals.of(320 * number) for number in range(700, 1001)] == [float(number) for number in range(700, 1001)]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=200))
def test_tiny_messages(sizes: list[int]) -> None:
    """Messages under 10 ms share entries: a position's arrival is never early, and late by less than 10 ms of audio."""
    arrivals = Arrivals()
    ends, end = [], 0
    for number, size in enumerate(sizes):
        end += size
        ends.append(end)
        arrivals.note(end, float(number))
    for position in range(1, end + 1):
        exact = next(number for number, end in enumerate(ends) if end >= position)
        told = int(arrivals.of(position))
        assert told >= exact
        assert ends[told] - ends[exact] < samples_of(10)


def test_memory_is_bounded() -> None:
    """Messages of one sample cost no more memory than 10 ms ones."""
    arrivals = arrivals_of(*((number, float(number)) for number in range(200_000)))
    assert len(arrivals._entries) <= 2 * 600 + 2  # noqa: SLF001 - memory shows nowhere else
