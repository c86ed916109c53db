"""Order statistics of small samples, and their uncertainty. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BOOTSTRAP_RESAMPLES = 2000


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Percentile by linear interpolation between the order statistics; None of no values."""
    return float(np.percentile(np.asarray(values, np.float64), percent)) if len(values) else None


def median(values: Sequence[float]) -> float | None:
    """The 50th percentile; None of no values."""
    return percentile(values, 50)


def summary(values: Sequence[float], digits: int = 1) -> dict[str, float | int | None]:
    """Count and 50th, 95th and 99th percentile, rounded."""
    named = {f"p{percent}": percentile(values, percent) for percent in (50, 95, 99)}
    return {"count": len(values)} | {
        name: None if value is None else round(value, digits) for name, value in named.items()
    }


def ratio_interval(numerators: Sequence[int], denominators: Sequence[int], seed: int = 1) -> tuple[float, float] | None:
    """Bootstrap 95 % confidence interval of sum(numerators) / sum(denominators), resampling pairs; None of none."""
    if not sum(denominators):
        return None
    above, below = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    picks = np.random.default_rng(seed).integers(0, len(above), (BOOTSTRAP_RESAMPLES, len(above)))
    totals = below[picks].sum(axis=1)
    ratios = above[picks].sum(axis=1)[totals > 0] / totals[totals > 0]
    low, high = np.percentile(ratios, (2.5, 97.5))
    return float(low), float(high)
