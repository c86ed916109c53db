"""A bound on how often something happens."""

from __future__ import annotations

from transport.token_bucket import TokenBucket


def test_a_burst_then_the_rate() -> None:
    """A burst is permitted at once, then one action each 1 / rate seconds; a pause fills the bucket, no further."""
    bucket = TokenBucket(20.0, 3)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(100.0 + milliseconds / 1000) for milliseconds in (40, 60, 90, 120)] == [
        False,
        True,
        False,
        True,
    ]
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]
