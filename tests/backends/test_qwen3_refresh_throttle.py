"""How the qwen3 engine spaces refreshes under load."""

from __future__ import annotations

import pytest

from backends.qwen3.options import Qwen3Options
from backends.qwen3.refresh_throttle import RECENT_SECONDS, RefreshThrottle
from backends.qwen3.schedule import Purpose
from protocol.pcm import SAMPLE_RATE

CHUNK = SAMPLE_RATE // 2


def throttle(max_num_seqs: int = 256, spread: float = 2.0) -> RefreshThrottle:
    return RefreshThrottle(Qwen3Options(max_num_seqs=max_num_seqs, refresh_seconds=0.5, refresh_spread=spread))


def test_refreshes_spread_out() -> None:
    """Refreshes are twice as far apart as they typically take, and never closer than the configured seconds."""
    loaded = throttle()
    assert loaded.spacing(0) == CHUNK
    loaded.refresh_took(0.1, 0)
    assert loaded.spacing(0) == CHUNK
    for _ in range(2):
        loaded.refresh_took(1.0, 0)
    assert loaded.spacing(0) == 2 * SAMPLE_RATE
    unlimited = throttle(spread=0)
    unlimited.refresh_took(1.0, 0)
    assert unlimited.spacing(0) == CHUNK


def test_live_decodes_stop_refreshes() -> None:
    """No refresh starts while live decodes take three quarters of the sequences."""
    full = throttle(max_num_seqs=4)
    for purpose in (Purpose.FINAL, Purpose.REFRESH, Purpose.FINAL):
        full.decode_started(purpose)
    assert full.spacing(0) is None
    full.decode_ended(Purpose.REFRESH)
    assert full.spacing(0) is not None


@pytest.mark.parametrize(("max_num_seqs", "uploads"), [(256, 6), (256, 16), (64, 2), (32, 1), (4, 1)])
def test_uploads_do_not_stop_refreshes(max_num_seqs: int, uploads: int) -> None:
    """However many pieces of files wait, refreshes go on: pieces have a quarter of the sequences at most."""
    busy = throttle(max_num_seqs)
    for _ in range(uploads * 32):
        busy.decode_started(Purpose.BATCH)
    assert busy.spacing(0) == CHUNK
    assert busy.in_flight_for(Purpose.BATCH) == uploads * 32


def test_one_stall_is_over_within_seconds() -> None:
    """After a stall of 10 s that all refreshes met, the spacing is back to normal within 3 s."""
    stalled = throttle()
    for _ in range(64):
        stalled.refresh_took(10.0, 100.0)
    assert stalled.spacing(100.0) == 20 * SAMPLE_RATE
    assert stalled.spacing(100.1 + RECENT_SECONDS) == CHUNK
    assert RECENT_SECONDS <= 3


def test_one_slow_refresh_changes_nothing() -> None:
    """A single slow refresh among others has no influence on the spacing."""
    steady = throttle()
    for second in range(5):
        steady.refresh_took(0.1, second / 2)
    steady.refresh_took(10.0, 2.5)
    assert steady.spacing(2.5) == CHUNK
