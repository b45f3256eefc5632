"""Intervals over seeds and over items, paired differences, and Holm's correction. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean with its 95 % interval, and the two-sided p-value of a mean of 0; NaN where there are fewer than three values."""

    mean: float
    low: float
    high: float
    p: float
    n: int


def over_seeds(values: Sequence[float]) -> Interval:
    """The mean over seeds with Student's t interval. Of paired differences, their mean and the p-value of no difference."""
    x = np.asarray(values, dtype=float)
    mean = float(x.mean()) if len(x) else float("nan")
    if len(x) < 3:  # two scores in steps of one item are easily the same, and then look certain
        return Interval(mean, float("nan"), float("nan"), float("nan"), len(x))
    error = stats.sem(x)
    if error <= 1e-9 * max(1.0, abs(mean)):  # all seeds agree to the digit
        return Interval(mean, mean, mean, float(mean == 0), len(x))
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


def over_items(scores: Sequence[float], rng: np.random.Generator, resamples: int = 2000) -> Interval:
    """The mean over the test items of one run, with a bootstrap interval; it knows nothing of the spread over seeds."""
    x = np.asarray(scores, dtype=float)
    if len(x) < 2 or x.std() == 0:
        return Interval(float(x.mean()), float("nan"), float("nan"), float("nan"), len(x))
    found = stats.bootstrap((x,), np.mean, confidence_level=LEVEL, n_resamples=resamples, method="percentile", rng=rng)
    low, high = found.confidence_interval
    return Interval(float(x.mean()), float(low), float(high), float("nan"), len(x))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979); NaN stays NaN and counts for nothing."""
    p = np.asarray(p_values, dtype=float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = (len(order) - np.arange(len(order))) * p[order]
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()
