"""Percentiles of small samples, and confidence intervals of ratios. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BOOTSTRAP_RESAMPLES = 2000

Summary = dict[str, float | int | None]  # `count`, `p50`, `p95` and `p99`; the percentiles are None without values


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return a percentile, with linear interpolation; None without values."""
    return float(np.percentile(np.asarray(values, np.float64), percent)) if len(values) else None


def median(values: Sequence[float]) -> float | None:
    """Return the median; None without values."""
    return percentile(values, 50)


def summary(values: Sequence[float], digits: int = 1) -> Summary:
    """Return the count and the 50th, 95th and 99th percentiles, rounded to `digits`."""
    percentiles = {f"p{percent}": rounded(percentile(values, percent), digits) for percent in (50, 95, 99)}
    return {"count": len(values)} | percentiles


def rounded(value: float | None, digits: int = 2) -> float | None:
    """Return `value` rounded to `digits`; None stays None."""
    return None if value is None else round(value, digits)


def ratio_interval(numerators: Sequence[int], denominators: Sequence[int], seed: int = 1) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of sum(numerators) / sum(denominators), by a bootstrap over the pairs.

    It is None if the denominators add up to 0.
    """
    if not sum(denominators):
        return None
    above, below = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    picks = np.random.default_rng(seed).integers(0, len(above), (BOOTSTRAP_RESAMPLES, len(above)))
    totals = below[picks].sum(axis=1)
    ratios = above[picks].sum(axis=1)[totals > 0] / totals[totals > 0]
    low, high = np.percentile(ratios, (2.5, 97.5))
    return float(low), float(high)
