"""A bound on how often something happens."""

from __future__ import annotations

from transport.rate_limit import RateLimit


def test_so_many_in_a_window() -> None:
    """What is more than the limit is refused until the window is over; a pause allows no more than one window."""
    limit = RateLimit(3, 0.5)
    assert [limit.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [limit.take(now) for now in (100.49, 100.5, 100.6, 100.7, 100.8)] == [False, True, True, True, False]
    assert [limit.take(1000.0) for _ in range(4)] == [True, True, True, False]
