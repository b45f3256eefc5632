"""Intervals over seeds, paired differences, and Holm's correction. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean with its 95 % interval, and the two-sided p-value of a mean of 0; NaN where there are fewer than three values, or all
    are the same."""

    mean: float
    low: float
    high: float
    p: float
    n: int


def over_seeds(values: Sequence[float]) -> Interval:
    """The mean over seeds with Student's t interval. Of paired differences, their mean and the p-value of no difference."""
    x = np.asarray(values, dtype=float)
    mean = float(x.mean()) if len(x) else float("nan")
    # scores in steps of one item are easily the same, and would then look certain
    if len(x) < 3 or np.ptp(x) <= 1e-9 * max(1.0, abs(mean)):
        return Interval(mean, float("nan"), float("nan"), float("nan"), len(x))
    error = stats.sem(x)
    low, high = stats.t.interval(LEVEL, len(x) - 1, mean, error)
    return Interval(mean, float(low), float(high), float(stats.ttest_1samp(x, 0).pvalue), len(x))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Ours − theirs, value by value: the same seeds in the same order.

    Raises:
        ValueError: if there is not one of theirs for each of ours.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"paired differences need the same seeds on both sides, got {len(ours)} and {len(theirs)}.")
    return over_seeds(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979); NaN stays NaN and counts for nothing."""
    p = np.asarray(p_values, dtype=float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = (len(order) - np.arange(len(order))) * p[order]
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()
