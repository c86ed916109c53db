"""Delays of the server's own are told: in `latency_ms`, and those of the event loop in a gauge."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.audio import reference, silence
from tests.client import Client, Message, connect, session
from tests.http_client import HTTP
from tests.server import Server, eventually
from transport.loop_lag import CHECK_SECONDS, WINDOW_SECONDS, LoopLag

HELD_UP = 2.0


def lag_of(*late: float) -> tuple[LoopLag, float]:
    """Of checks that were late by so many seconds, and the time of the last."""
    lag, now = LoopLag(100.0), 100.0
    for seconds in late:
        now += CHECK_SECONDS + seconds
        lag.check(now)
    return lag, now


def test_the_longest_lag_of_a_minute_is_reported() -> None:
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
    """Also one that lasts still."""
    lag, now = lag_of(0.0, 0.01, 1.0, 0.01, 2.0)
    assert lag.blocked_seconds(now) == pytest.approx(3.02)
    assert lag.blocked_seconds(now + CHECK_SECONDS + 5.0) == pytest.approx(8.02)


def test_a_blocked_loop_hides_no_delay(folder: Path) -> None:
    """An utterance ends while the loop is blocked for 2 s: its final's `latency_ms` and the gauge have the delay."""
    with Server.with_fault(folder, "none") as server:
        # On a busy machine this client may be so late that its utterance ends as stalled.
        final, delay = eventually(lambda: _final_of_a_blocked_loop(server))
        lag = server.metric("stt_event_loop_lag_seconds")

    assert final["latency_ms"] > 500 * delay, "half of the time after the last sample, at least"
    assert lag > 0.9 * HELD_UP


def _final_of_a_blocked_loop(server: Server) -> tuple[Message, float] | None:
    """The final, and the seconds from its last sample until the loop ran again; None: silence did not end it."""
    with session(server.ws()) as client:
        client.speak(silence(500) + reference("hello"))
        holder = threading.Thread(target=HTTP.get, args=(f"{server.http}/hold-up?seconds={HELD_UP}",))
        holder.start()
        client.speak(silence(600))  # the endpoint comes after 500 ms
        ended = time.monotonic()
        while holder.is_alive():
            client.speak(silence(20))
        freed = time.monotonic()
        client.speak(silence(200))
        (final,) = client.finals(1)
    return (final, freed - ended) if final["reason"] == "endpoint" else None


def test_time_in_the_queue_counts(folder: Path) -> None:
    """A final is stamped as it is sent: one that waits for 2 s, since its client reads nothing, has them."""
    with (
        Server.with_fault(folder, "wordy") as server,
        connect(server.ws(), compression=None, max_size=None, max_queue=1) as raw,
    ):
        client = Client(raw)
        client.speak(5 * (reference("hello")[:16_000] + silence(600)), 6_400)
        eventually(lambda: server.metric("stt_out_queue_messages") >= 1)
        time.sleep(HELD_UP)
        finals = client.finals(5)

    assert finals[-1]["latency_ms"] >= 1000 * HELD_UP
