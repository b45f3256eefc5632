"""Intervals and corrections, by hand and against scipy."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from adaswitch_lib.report.statistics import holm, over_seeds, paired


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


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, float("nan"), 0.9])[0] == 1.0
    assert math.isnan(holm([0.5, float("nan")])[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_never_lowers(p):
    adjusted = holm(p)
    assert all(a >= b - 1e-12 and a <= 1 for a, b in zip(adjusted, p, strict=True))
    assert sorted(range(len(p)), key=lambda i: (p[i], i)) == sorted(range(len(p)), key=lambda i: (adjusted[i], p[i], i))
