"""Sample positions to arrival times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inference.arrival_times import ArrivalTimes
from protocol.pcm import samples_of


def arrivals_of(*notes: tuple[int, float]) -> ArrivalTimes:
    """Messages that end before these samples, each handed over alone."""
    arrivals = ArrivalTimes()
    begin = 0
    for end, arrived in notes:
        arrivals.record(2 * begin, [bytes(2 * (end - begin))], [arrived])
        begin = end
    return arrivals


def test_together() -> None:
    """Messages that were handed over together keep their own arrivals, wherever the first began."""
    arrivals = arrivals_of((320, 1.0))
    arrivals.record(2 * 640, [bytes(640), bytes(641), bytes(639)], [4.0, 5.0, 6.0])
    assert [arrivals.at_sample(position) for position in (320, 321, 960, 961, 1280, 1281, 1600)] == [
        1,
        4,
        4,
        5,
        5,
        6,
        6,
    ]


def test_each_message() -> None:
    """All samples before a position had arrived with the message that holds the last of them."""
    arrivals = arrivals_of((320, 1.0), (640, 2.0), (960, 3.0))
    assert [arrivals.at_sample(position) for position in (1, 320, 321, 640, 641, 960)] == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]


def test_beyond_the_newest() -> None:
    """A position that nothing has reached has the newest arrival."""
    assert arrivals_of((320, 1.0)).at_sample(400) == 1.0


def test_long_message_keeps_what_came_before() -> None:
    """A message of 8 s does not make the ones before it forgotten: they may not have been heard yet."""
    arrivals = arrivals_of((320, 1.0), (640, 2.0), (640 + samples_of(8000), 9.0))
    assert [arrivals.at_sample(position) for position in (320, 640, 641)] == [1.0, 2.0, 9.0]


def test_gap() -> None:
    """Dropped audio arrived with the message after it."""
    arrivals = arrivals_of((320, 1.0))
    arrivals.record(2 * (samples_of(60_000) - 320), [bytes(640)], [9.0])
    assert [arrivals.at_sample(position) for position in (320, 321, samples_of(30_000))] == [1.0, 9.0, 9.0]


def test_last_six_seconds() -> None:
    """6 s of messages of 20 ms are remembered exactly, the search for a cut included."""
    arrivals = arrivals_of(*((320 * number, float(number)) for number in range(1, 1001)))
    assert [arrivals.at_sample(320 * number) for number in range(700, 1001)] == [
        float(number) for number in range(700, 1001)
    ]


@given(st.lists(st.lists(st.integers(0, 700), min_size=1, max_size=130), min_size=1, max_size=12))
def test_any_messages(batches: list[list[int]]) -> None:
    """A position's arrival is never early, and exact unless more than 100 messages came together."""
    arrivals = ArrivalTimes()
    exact: list[tuple[int, float]] = []
    end = 0
    for number, sizes in enumerate(batches):
        times = [number + index / 1000 for index in range(len(sizes))]
        arrivals.record(end, [bytes(size) for size in sizes], times)
        for size, arrived in zip(sizes, times, strict=True):
            end += size
            exact.append((end, arrived if len(sizes) <= 100 else times[-1]))
    for position in range(1, end // 2 + 1, 7):
        assert arrivals.at_sample(position) == next(arrived for end, arrived in exact if end // 2 >= position)


def test_memory_is_bounded() -> None:
    """Thousands of messages that came together cost one entry, and old ones are forgotten."""
    arrivals = ArrivalTimes()
    for number in range(2_000):
        arrivals.record(320 * number, [b"x"] * 320, [float(number)] * 320)
    assert len(arrivals._ends) == len(arrivals._times) < 700  # noqa: SLF001 - memory shows nowhere else
