from __future__ import annotations

import pytest

from bench.load.ramp import capacity, next_level


def levels_until(knee: int, most: int = 512) -> list[int]:
    passed: dict[int, bool] = {}
    while (level := next_level(passed, most)) is not None:
        assert level not in passed
        passed[level] = level <= knee
    return list(passed)


@pytest.mark.parametrize(
    ("knee", "levels"),
    [
        (0, [1]),
        (1, [1, 2]),
        (5, [1, 2, 4, 8, 6, 5]),
        (64, [1, 2, 4, 8, 16, 32, 64, 128, 96, 80, 72, 68]),
        (999, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]),
    ],
)
def test_climb(knee: int, levels: list[int]) -> None:
    """Levels double until one fails, then approach the knee, and never repeat."""
    assert levels_until(knee) == levels


def test_most() -> None:
    """No level is beyond the most allowed."""
    assert levels_until(999, 12) == [1, 2, 4, 8, 12]


def test_capacity() -> None:
    """A level passed by luck beyond a failed one is not capacity."""
    assert capacity({1: True, 2: True, 4: False, 8: True}) == 2
    assert capacity({1: False}) == 0
