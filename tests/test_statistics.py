"""Intervals and corrections, by hand and against scipy."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from adaswitch_lib.report.statistics import holm, over_seeds, paired, pooled, unpaired


def test_an_interval_by_hand():
    found = over_seeds([1.0, 2.0, 3.0])
    half = 4.302652729911275 * 1 / math.sqrt(3)  # t(0.975, 2) · s / √n
    assert found.mean == 2.0 and found.n == 3
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))


def test_pairs_are_what_scipy_says_of_them():
    ours, theirs = [0.5, 0.7, 0.6, 0.9], [0.4, 0.65, 0.61, 0.7]
    found = paired(ours, theirs)
    expected = stats.ttest_rel(ours, theirs)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    with pytest.raises(ValueError, match="the same seeds"):
        paired([1.0], [1.0, 2.0])


def test_one_seed_has_no_interval_and_agreement_has_none_either():
    assert math.isnan(over_seeds([0.3]).low) and over_seeds([0.3]).mean == 0.3
    assert math.isnan(over_seeds([]).mean)
    assert math.isnan(over_seeds([0.3, 0.5]).low)  # two values in steps of one item are easily the same
    for value in (0.002, 0.0):  # and so are three
        found = over_seeds([value] * 3)
        assert found.mean == value and math.isnan(found.low) and math.isnan(found.p)


def test_an_unusual_student_moves_the_mean_more_than_the_median_of_pairwise_means():
    found = over_seeds([0.1, 0.2, 0.3, 9.0])
    pairs = [0.1, 0.15, 0.2, 4.55, 0.2, 0.25, 4.6, 0.3, 4.65, 9.0]
    assert found.hodges_lehmann == pytest.approx(np.median(pairs)) and found.mean == pytest.approx(2.4)
    assert over_seeds([0.3]).hodges_lehmann == 0.3


def test_equivalence_is_two_one_sided_tests():
    values = [0.01, -0.02, 0.015, 0.0, 0.01]
    below = stats.ttest_1samp(values, 0.05, alternative="less").pvalue
    above = stats.ttest_1samp(values, -0.05, alternative="greater").pvalue
    assert over_seeds(values).outside(0.05) == pytest.approx(max(below, above))
    assert over_seeds(values).outside(0.05) < 0.05 < over_seeds(values).outside(0.01)
    assert over_seeds([-0.01, 0.0, 0.01]).outside(0.1) < 0.05  # a mean of 0
    assert math.isnan(over_seeds([0.01]).outside(0.05))


def test_seeds_that_share_nothing_are_not_paired():
    ours, theirs = [0.5, 0.7, 0.6, 0.9], [0.1, 0.8, 0.2]
    found, expected = unpaired(ours, theirs), stats.ttest_ind(ours, theirs, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue) and found.n == 3
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.outside(1.0) < 0.05 < found.outside(0.5)
    assert math.isnan(unpaired([0.5], theirs).p)


def test_settings_times_seeds_by_hand():
    """Two settings that differ by 2, seeds by 10, and residuals of ±1."""
    found = pooled(pd.DataFrame([[11.0, 19.0, 31.0, 39.0], [11.0, 23.0, 31.0, 43.0]]))
    assert found.spread == pytest.approx((8 / 3) ** 0.5)  # eight squares, three degrees of freedom
    assert found.detectable == pytest.approx(stats.t.ppf(0.975, 3) * found.spread * (2 / 4) ** 0.5)
    within = stats.ttest_rel([11.0, 19.0, 31.0, 39.0], [11.0, 23.0, 31.0, 43.0]).pvalue  # of two settings the same question
    assert found.p == pytest.approx(within)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, float("nan"), 0.9])[0] == 1.0
    assert math.isnan(holm([0.5, float("nan")])[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_never_lowers(p):
    adjusted = holm(p)
    assert all(a >= b - 1e-12 and a <= 1 for a, b in zip(adjusted, p, strict=True))
    assert sorted(range(len(p)), key=lambda i: (p[i], i)) == sorted(range(len(p)), key=lambda i: (adjusted[i], p[i], i))
