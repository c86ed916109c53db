"""When a stream connects again."""

from __future__ import annotations

import pytest

from stt_client.connection import retry_after_seconds
from stt_client.retry import RetrySchedule


def schedule(now: float = 0, fraction: float = 0) -> RetrySchedule:
    return RetrySchedule(now, connect_seconds=10, reconnect_seconds=60, fraction=lambda: fraction)


def steady() -> RetrySchedule:
    """A stream that a server took at 0 s."""
    taken = schedule()
    taken.taken(0)
    return taken


@pytest.mark.parametrize("code", [1006, 1011, 1012, 1013])
def test_the_first_attempt_is_made_at_once(code: int) -> None:
    """After a close that another server may mend, the stream connects at once, then after growing delays."""
    retry = steady()

    assert retry.closed(code, 100) == 0
    assert [retry.refused(None, None, 100) for _ in range(7)] == [0.25, 0.5, 1, 2, 4, 8, 8]


def test_delays_are_jittered() -> None:
    """Clients of one server that went do not come back all at once: a delay is halved at most."""
    retry = schedule(fraction=1.0)
    retry.taken(0)
    retry.closed(1012, 100)

    assert retry.refused(None, None, 100) == 0.125


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1009])
def test_other_closes_are_final(code: int) -> None:
    """After any other close the same stream fails again."""
    assert steady().closed(code, 100) is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500])
def test_other_answers_are_final(status: int) -> None:
    """After any other HTTP answer the same request fails again."""
    assert schedule().refused(status, None, 0) is None


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_busy_server_says_how_long_to_wait(status: int) -> None:
    """Retry-After is obeyed: the stream never comes earlier."""
    assert schedule().refused(status, 5, 0) == 5
    assert schedule().refused(status, 0, 0) == 0.25


def test_a_wait_longer_than_the_stream_has_is_a_refusal() -> None:
    """If the server asks for more time than is left, no attempt would be obedient and in time."""
    assert schedule().refused(503, 11, 0) is None


def test_the_fourth_failure_in_a_minute_is_final() -> None:
    """A stream on which servers fail is tried three times a minute."""
    retry = steady()
    for second in (100, 101, 102):
        assert retry.closed(1011, second) is not None
    assert retry.closed(1011, 103) is None


def test_a_failure_now_and_then_is_retried_for_ever() -> None:
    """Failures more than a minute apart do not add up."""
    retry = steady()
    for minute in range(10):
        retry.taken(minute * 25)
        assert retry.closed(1011, minute * 25 + 6) is not None


def test_no_server_within_60_s_is_final() -> None:
    """The last attempt is made when the time is over."""
    retry = steady()
    now = 100.0
    retry.closed(1006, now)
    while (delay := retry.refused(None, None, now)) is not None:
        now += delay

    assert now == 160


def test_a_server_that_takes_streams_and_drops_them_is_not_flooded() -> None:
    """Only a connection that lasted starts the delays anew."""
    retry = steady()
    assert retry.closed(1012, 100) == 0
    for expected in (0.25, 0.5, 1):
        retry.taken(100)
        assert retry.closed(1012, 100) == expected


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, None), ("5", 5), ("soon", None), ("Thu, 01 Jan 1970 00:00:00 GMT", 0)]
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    """Both forms of RFC 9110 are understood, and nonsense is as if it were not there."""
    assert retry_after_seconds(header) == seconds
