"""Sample positions to arrival times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.arrival_times import ArrivalTimes
from inference.worker_interfaces import AudioMessages
from protocol.pcm import SAMPLE_RATE, samples_of
from transport.client_pace import JITTER_SECONDS


def messages(
    offset: int, sizes: Sequence[int], reads: Sequence[float], *, live: bool = True, resumes: bool = False
) -> AudioMessages:
    """Messages of so many bytes, each read at its time."""
    made = AudioMessages(offset, live=live, resumes=resumes)
    for size, read in zip(sizes, reads, strict=True):
        made.add(bytes(size), read)
    return made


def arrivals_of(*notes: tuple[int, float], live: bool = True, blocked_at: int | None = None) -> ArrivalTimes:
    """Messages that end before these samples, each handed over alone.

    The client paused where one comes late, but not before number `blocked_at`: there the event loop was blocked.
    """
    arrivals = ArrivalTimes()
    begin, last = 0, 0.0
    for number, (end, read) in enumerate(notes, 1):
        paused = read - last > (end - begin) / SAMPLE_RATE + JITTER_SECONDS and number != blocked_at
        arrivals.record(messages(2 * begin, [2 * (end - begin)], [read], live=live, resumes=paused))
        begin, last = end, read
    return arrivals


def spoken(
    frames: int, first: float, read: Callable[[int, float], float], blocked_at: int | None = None
) -> ArrivalTimes:
    """So many messages of 20 ms that arrive live from `first` on; `read` delays the reading of each by its number."""
    notes = ((320 * number, read(number, first + 0.02 * number)) for number in range(1, frames + 1))
    return arrivals_of(*notes, blocked_at=blocked_at)


def test_a_delay_of_reading_does_not_hide() -> None:
    """Messages that the event loop read late, all at once, arrived as they were spoken: also while some are unread."""
    arrivals = spoken(120, 10.0, lambda number, arrived: 13.0 if number > 50 else arrived, blocked_at=51)
    assert arrivals.at_sample(320 * 100) == pytest.approx(12.0)
    assert arrivals.at_sample(320 * 51) == pytest.approx(11.02)


def test_a_delay_that_lasts_does_not_hide() -> None:
    """However long the loop is late, as long as it once was not in the last seconds."""
    arrivals = spoken(200, 10.0, lambda number, arrived: arrived if number < 100 else arrived + 0.08)
    assert arrivals.at_sample(320 * 180) == pytest.approx(13.6)


def test_a_pause_of_the_client_is_no_delay() -> None:
    """A client that was muted for 3 s goes on 3 s later, and audio arrives when it is read again."""
    arrivals = spoken(200, 10.0, lambda number, arrived: arrived + 3.0 if number > 100 else arrived)
    assert arrivals.at_sample(320 * 101) == pytest.approx(15.02)
    assert arrivals.at_sample(320 * 200) == pytest.approx(17.0)
    assert arrivals.at_sample(320 * 100) == pytest.approx(12.0)


def test_a_late_network_is_no_delay_of_ours_once_it_recovers() -> None:
    """A burst behind a stall of 2 s cannot be told from a held-up loop: it counts, and what comes live after it not."""
    arrivals = spoken(300, 10.0, lambda number, arrived: 14.0 if 100 < number <= 200 else arrived)
    assert arrivals.at_sample(320 * 150) == pytest.approx(13.0)
    assert arrivals.at_sample(320 * 250) == pytest.approx(15.0)


def test_a_client_ahead_of_real_time() -> None:
    """Its audio arrives when it is read."""
    arrivals = arrivals_of((16_000, 1.0), (32_000, 1.1), (48_000, 1.5), live=False)
    assert [arrivals.at_sample(position) for position in (16_000, 32_000, 48_000)] == [1.0, 1.1, 1.5]


def test_a_long_message_arrives_at_its_end() -> None:
    """None of its samples is there before the message is."""
    arrivals = arrivals_of((16_000, 2.0), (32_000, 3.0), (48_000, 4.0))
    assert [arrivals.at_sample(position) for position in (16_001, 20_000, 32_000)] == [3.0, 3.0, 3.0]


def test_messages_that_were_read_as_one() -> None:
    """Each arrived as it was spoken, not with the last of them."""
    arrivals = ArrivalTimes()
    for number in range(25):
        chunk = AudioMessages(2 * 1280 * number)
        chunk.add(bytes(2 * 1280), 10.0 + 0.08 * (number + 1), 4)
        arrivals.record(chunk)
    asked = [1280 * 20 + position for position in (1, 320, 321, 640, 960, 1280)]
    assert [arrivals.at_sample(position) for position in asked] == pytest.approx(
        [11.62, 11.62, 11.64, 11.64, 11.66, 11.68]
    )


def test_together() -> None:
    """Messages that were handed over together keep their own arrivals, wherever the first began."""
    arrivals = arrivals_of((320, 1.0))
    arrivals.record(messages(2 * 640, [640, 641, 639], [4.0, 5.0, 6.0], live=False))
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
    arrivals = arrivals_of((320, 1.0), (640, 2.0), (640 + samples_of(8000), 10.5))
    assert [arrivals.at_sample(position) for position in (320, 640, 641)] == [1.0, 2.0, 10.5]


def test_gap() -> None:
    """Dropped audio arrived with the message after it."""
    arrivals = arrivals_of((320, 1.0))
    arrivals.record(messages(2 * (samples_of(60_000) - 320), [640], [61.0]))
    assert [arrivals.at_sample(position) for position in (320, 321, samples_of(30_000))] == [1.0, 61.0, 61.0]


def test_last_six_seconds() -> None:
    """6 s of messages of 20 ms are remembered exactly, the search for a cut included."""
    arrivals = arrivals_of(*((320 * number, float(number)) for number in range(1, 1001)))
    assert [arrivals.at_sample(320 * number) for number in range(700, 1001)] == [
        float(number) for number in range(700, 1001)
    ]


@given(st.lists(st.lists(st.integers(0, 700), min_size=1, max_size=130), min_size=1, max_size=12), st.booleans())
def test_any_messages(batches: list[list[int]], live: bool) -> None:
    """A position's arrival is never later than its reading, and exactly that for a client ahead of real time."""
    arrivals = ArrivalTimes()
    reads: list[tuple[int, float]] = []
    end = 0
    for number, sizes in enumerate(batches):
        times = [number + index / 1000 for index in range(len(sizes))]
        arrivals.record(messages(end, sizes, times, live=live))
        for size, read in zip(sizes, times, strict=True):
            end += size
            reads.append((end, read if len(sizes) <= 100 else times[-1]))
    for position in range(1, end // 2 + 1, 7):
        read = next(read for end, read in reads if end // 2 >= position)
        assert arrivals.at_sample(position) <= read
        assert live or arrivals.at_sample(position) == read


def test_memory_is_bounded() -> None:
    """Thousands of messages that came together cost one entry, and old ones are forgotten."""
    arrivals = ArrivalTimes()
    for number in range(2_000):
        arrivals.record(messages(320 * number, [1] * 320, [float(number)] * 320))
    assert len(arrivals._ends) == len(arrivals._reads) < 700  # noqa: SLF001 - memory shows nowhere else
