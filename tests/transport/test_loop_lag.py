"""An event loop that is held up: every delay of its own is told, in finals and in a gauge."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.audio import reference, silence
from tests.client import session
from tests.server import Server
from transport.loop_lag import CHECK_SECONDS, WINDOW_SECONDS, LoopLag

HELD_UP = 2.0


def lag_of(*late: float) -> tuple[LoopLag, float]:
    """Of checks that were late by so many seconds, and the time of the last."""
    lag, now = LoopLag(100.0), 100.0
    for seconds in late:
        now += CHECK_SECONDS + seconds
        lag.check(now)
    return lag, now


def test_the_longest_lag_of_a_minute_is_told() -> None:
    """Then the longest of those after it."""
    lag, now = lag_of(0.0, 0.5, 3.0, 1.0, 0.25)
    assert lag.longest(now) == pytest.approx(3.0)
    assert lag.longest(now + CHECK_SECONDS + 7) == pytest.approx(7.0), "a check that is overdue counts"
    later = now + WINDOW_SECONDS - 1.0
    lag.check(later)
    lag.check(later + CHECK_SECONDS)
    assert lag.longest(later + CHECK_SECONDS) > 50
    assert lag.longest(later + CHECK_SECONDS + 2 * WINDOW_SECONDS) == pytest.approx(2 * WINDOW_SECONDS - CHECK_SECONDS)


def test_hold_ups_add_up() -> None:
    """Each counts at most: it may have begun just after the check before. The usual lateness is none."""
    lag, now = lag_of(0.0, 0.01, 1.0, 0.01, 2.0)
    assert lag.held_up(now) == pytest.approx(3.0 + 2 * CHECK_SECONDS)
    assert lag.held_up(now + CHECK_SECONDS + 5.0) == pytest.approx(8.0 + 3 * CHECK_SECONDS)


def test_a_loop_that_is_held_up_hides_no_lateness(folder: Path) -> None:
    """An utterance ends while the loop is held up for 2 s: its final's `latency_ms` and the gauge have the delay."""
    with Server.with_fault(folder, "none") as server, session(server.ws()) as client:
        client.speak(silence(500) + reference("hello"))
        with httpx.Client(base_url=server.http, timeout=30) as other:
            holder = threading.Thread(target=other.get, args=("/hold-up",), kwargs={"params": {"seconds": HELD_UP}})
            holder.start()
            client.speak(silence(600))  # the endpoint comes after 500 ms
            ended = time.monotonic()
            while holder.is_alive():
                client.speak(silence(20))
            freed = time.monotonic()
            client.speak(silence(200))
        (final,) = client.finals(1)
        lag = server.metric("stt_event_loop_lag_seconds")

    assert final["reason"] == "endpoint"
    assert final["latency_ms"] > 500 * (freed - ended), "half of the time after the last sample, at least"
    assert lag > 0.9 * HELD_UP
