"""How the qwen3 engine spaces refreshes under load."""

from __future__ import annotations

from backends.qwen3.refresh_throttle import RefreshThrottle
from protocol.pcm import SAMPLE_RATE

CHUNK = SAMPLE_RATE // 2


def test_refreshes_spread_out() -> None:
    """Refreshes are twice as far apart as they take, and stop when three quarters of the sequences are taken."""
    throttle = RefreshThrottle(4, 0.5, 2.0)
    assert throttle.spacing() == CHUNK
    throttle.refresh_took(1.0)
    assert throttle.spacing() == 2 * SAMPLE_RATE

    unlimited = RefreshThrottle(4, 0.5, 0)
    unlimited.refresh_took(1.0)
    assert unlimited.spacing() == SAMPLE_RATE // 2
    for _ in range(3):
        throttle.decode_started()
    assert throttle.spacing() is None
    throttle.decode_ended()
    assert throttle.spacing() is not None
