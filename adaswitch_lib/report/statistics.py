"""Means with intervals, differences and their tests over seeds. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean with its 95 % interval and tests; NaN where there are fewer than three values, or all are the same.

    Attributes:
        p: two-sided p-value of a mean of 0 (Student's t; Welch's for `unpaired`).
        n: how many values.
        hodges_lehmann: the median of all pairwise means (for `unpaired`, of all pairwise differences), which a single student that
            ends somewhere else moves little.
        error: standard error of the mean.
        freedom: degrees of freedom.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int
    hodges_lehmann: float
    error: float
    freedom: float

    def outside(self, margin: float) -> float:
        """P-value of a mean outside of ±`margin`: two one-sided t-tests (TOST). Below 0.05 it is shown to lie within."""
        return float(stats.t.sf((margin - abs(self.mean)) / self.error, self.freedom))


def over_seeds(values: Sequence[float]) -> Interval:
    """The mean over seeds. Of paired differences, their mean and the p-value of no difference."""
    x = np.asarray(values, dtype=float)
    mean = float(x.mean()) if len(x) else float("nan")
    pairs = x[np.triu_indices(len(x))[0]] + x[np.triu_indices(len(x))[1]]
    middle = float(np.median(pairs) / 2) if len(x) else float("nan")
    # scores in steps of one item are easily the same, and would then look certain
    if len(x) < 3 or np.ptp(x) <= 1e-9 * max(1.0, abs(mean)):
        return Interval(mean, *[float("nan")] * 3, len(x), middle, *[float("nan")] * 2)
    return _interval(stats.ttest_1samp(x, 0), mean, len(x), middle)


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Ours − theirs, value by value: the same seeds in the same order.

    Raises:
        ValueError: if there is not one of theirs for each of ours.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"paired differences need the same seeds on both sides, got {len(ours)} and {len(theirs)}.")
    return over_seeds(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float))


def unpaired(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """The mean of ours − that of theirs, which share nothing: Welch's t. `n` is the smaller number of values."""
    x, y = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    mean, middle, n = float(x.mean() - y.mean()), float(np.median(x[:, None] - y)), min(len(x), len(y))
    if n < 3 or np.ptp(x) + np.ptp(y) <= 1e-9:
        return Interval(mean, *[float("nan")] * 3, n, middle, *[float("nan")] * 2)
    return _interval(stats.ttest_ind(x, y, equal_var=False), mean, n, middle)


def ratio_of_means(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """The mean of ours as a share of that of theirs, of the same items in the same order; a 95 % bootstrap interval over items."""
    x, y = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)

    def ratio(x, y, axis=-1):
        return x.mean(axis) / y.mean(axis)

    interval = stats.bootstrap((x, y), ratio, paired=True, confidence_level=LEVEL, method="percentile", rng=0).confidence_interval
    return float(ratio(x, y)), float(interval.low), float(interval.high)


def _interval(test, mean: float, n: int, middle: float) -> Interval:
    low, high = test.confidence_interval(LEVEL)
    error = (high - low) / 2 / stats.t.ppf((1 + LEVEL) / 2, test.df)
    return Interval(mean, float(low), float(high), float(test.pvalue), n, middle, float(error), float(test.df))


class Pooled(NamedTuple):
    """What a table of settings × seeds can show: the standard deviation that neither explains, the smallest difference between two
    settings that would be significant (p < 0.05, uncorrected), and the p-value of no difference between any of them."""

    spread: float
    detectable: float
    p: float


def pooled(table: pd.DataFrame) -> Pooled:
    """Two-way analysis of variance without interaction.

    Args:
        table: a row a setting, a column a seed, without gaps; at least two of each.
    """
    settings, seeds = table.shape
    x = table.to_numpy(dtype=float)
    by_setting = x.mean(axis=1, keepdims=True)
    freedom = (settings - 1) * (seeds - 1)
    variance = np.square(x - by_setting - x.mean(axis=0) + x.mean()).sum() / freedom
    between = seeds * np.square(by_setting - x.mean()).sum() / (settings - 1)
    detectable = stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(2 * variance / seeds)
    return Pooled(float(variance**0.5), float(detectable), float(stats.f.sf(between / variance, settings - 1, freedom)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979); NaN stays NaN and counts for nothing."""
    p = np.asarray(p_values, dtype=float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = (len(order) - np.arange(len(order))) * p[order]
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()
