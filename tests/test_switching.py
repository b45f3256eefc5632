"""The switching rule: by hand, against a plain loop, and at its edges."""

import doctest
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaswitch_lib import switching
from adaswitch_lib.switching import SwitchRule, first_switch, moving_average, switch_threshold

torch.set_num_threads(1)

INF = math.inf
FIVE = torch.tensor([[2.0, 4.0, 3.0, 9.0, 1.0]])


def test_moving_average_by_hand():
    # L = 2: 2/1, (2+4)/2, (4+3)/2, (3+9)/2, (9+1)/2
    assert moving_average(FIVE, window=2).tolist() == [[2.0, 3.0, 3.5, 6.0, 5.0]]


def test_threshold_by_hand():
    # K = 2, one value of history: nothing before the first; then 2·2, 2·3, 2·3.5, 2·6
    rule = SwitchRule(multiplier=2.0, window=2, min_history=1)
    assert switch_threshold(FIVE, rule).tolist() == [[INF, 4.0, 6.0, 7.0, 12.0]]


def test_first_switch_by_hand():
    # 2 > inf no; 4 > 4 no (a tie); 3 > 6 no; 9 > 7 yes: position 3
    rule = SwitchRule(multiplier=2.0, window=2, min_history=1)
    assert first_switch(FIVE, torch.ones_like(FIVE), rule).tolist() == [3]


def test_floor_by_hand():
    # τ = max(K · mean, 10) never falls below 10, and 9 does not exceed it
    rule = SwitchRule(multiplier=2.0, window=2, min_history=1, floor=10.0)
    assert switch_threshold(FIVE, rule).tolist() == [[INF, 10.0, 10.0, 10.0, 12.0]]
    assert first_switch(FIVE, torch.ones_like(FIVE), rule).tolist() == [-1]


def test_min_history_by_hand():
    # position 3 has 3 values before it: it may trip with min_history 3, not with 4
    for min_history, switch in ((3, 3), (4, -1)):
        rule = SwitchRule(multiplier=2.0, window=2, min_history=min_history)
        assert first_switch(FIVE, torch.ones_like(FIVE), rule).tolist() == [switch]


def test_doctests_run():
    result = doctest.testmod(switching)
    assert result.attempted > 0 and result.failed == 0


def loop(values, rule):
    """The rule on one row without padding, in plain Python: means, thresholds, first switch."""
    means, thresholds = [], []
    for i in range(len(values)):
        last = values[max(0, i + 1 - rule.window) : i + 1]
        means.append(sum(last) / len(last))
        before = means[i - 1] if i > 0 else 0.0
        threshold = INF if rule.multiplier == INF else max(rule.multiplier * before, rule.floor)
        thresholds.append(threshold if i >= rule.min_history else INF)
    trips = [i for i, value in enumerate(values) if value > thresholds[i]]
    return means, thresholds, trips[0] if trips else -1


# multiples of 1/8 and powers of 2 as K: sums are exact, so a tie is a tie in both programs
VALUES = st.integers(0, 80).map(lambda eighths: eighths / 8) | st.sampled_from([0.0, INF])
RULES = st.builds(
    SwitchRule,
    multiplier=st.sampled_from([0.5, 1.0, 2.0, 4.0, INF]),
    window=st.integers(1, 9),
    min_history=st.integers(0, 6),
    floor=st.sampled_from([0.0, 0.5, 3.0]),
)
ROWS = st.lists(VALUES, min_size=1, max_size=14)
GARBAGE = st.sampled_from([0.0, 1e9, -5.0, math.nan, INF, -INF])


@settings(deadline=None, max_examples=300)
@given(ROWS, RULES, st.lists(GARBAGE, max_size=4), st.lists(GARBAGE, max_size=4))
def test_equals_a_plain_loop_whatever_stands_on_padding(values, rule, left, right):
    means, thresholds, switch = loop(values, rule)
    divergence = torch.tensor([left + values + right], dtype=torch.float64)
    mask = torch.tensor([[0] * len(left) + [1] * len(values) + [0] * len(right)])
    real = slice(len(left), len(left) + len(values))

    assert moving_average(divergence, rule.window, mask)[0, real].tolist() == pytest.approx(means, rel=1e-12)
    assert switch_threshold(divergence, rule, mask)[0, real].tolist() == pytest.approx(thresholds, rel=1e-12)
    assert first_switch(divergence, mask, rule).tolist() == [switch + len(left) if switch >= 0 else -1]


@settings(deadline=None, max_examples=100)
@given(st.lists(ROWS, min_size=2, max_size=4), RULES)
def test_rows_of_a_batch_are_independent(rows, rule):
    width = max(map(len, rows))
    divergence = torch.tensor([row + [math.nan] * (width - len(row)) for row in rows], dtype=torch.float64)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    assert first_switch(divergence, mask, rule).tolist() == [loop(row, rule)[2] for row in rows]


@settings(deadline=None, max_examples=100)
@given(ROWS, RULES, VALUES, st.data())
def test_a_value_changes_no_threshold_up_to_its_own(values, rule, other, data):
    i = data.draw(st.integers(0, len(values) - 1))
    changed = [*values[:i], other, *values[i + 1 :]]
    ours, theirs = (switch_threshold(torch.tensor([row]), rule)[0, : i + 1].tolist() for row in (values, changed))
    assert ours == theirs


@settings(deadline=None, max_examples=100)
@given(ROWS, RULES)
def test_a_decision_does_not_depend_on_later_values(values, rule):
    switch = first_switch(torch.tensor([values]), torch.ones(1, len(values)), rule).item()
    for end in range(1, len(values) + 1):
        seen = first_switch(torch.tensor([values[:end]]), torch.ones(1, end), rule).item()
        assert seen == (switch if switch < end else -1)


def test_no_values_count_as_a_mean_of_zero():
    mask = torch.tensor([[0, 0, 1]])
    assert moving_average(torch.tensor([[7.0, 7.0, 5.0]]), 2, mask).tolist() == [[0.0, 0.0, 5.0]]


def test_a_window_with_an_infinite_value_never_trips():
    # L = 2: the inf at position 1 stands in the mean before positions 2 and 3, and has left that before 4
    divergence = torch.tensor([[1.0, INF, 50.0, 60.0, 1000.0]])
    rule = SwitchRule(multiplier=2.0, window=2, min_history=2)
    assert switch_threshold(divergence, rule).tolist() == [[INF, INF, INF, INF, 110.0]]
    assert first_switch(divergence, torch.ones_like(divergence), rule).tolist() == [4]


def test_an_infinite_value_trips_a_finite_threshold_and_leaves_no_nan():
    divergence = torch.tensor([[1.0, INF, INF, 0.0]])
    rule = SwitchRule(multiplier=2.0, window=3, min_history=1)
    assert first_switch(divergence, torch.ones_like(divergence), rule).tolist() == [1]
    assert not switch_threshold(divergence, rule).isnan().any()
    assert not moving_average(divergence, 3).isnan().any()


@pytest.mark.parametrize("values", [[0.0, 1.0, 0.0, 9.0], [0.0, 0.0, INF, INF]])
def test_an_infinite_multiplier_never_trips(values):
    divergence = torch.tensor([values])
    rule = SwitchRule(multiplier=INF, min_history=0)
    assert switch_threshold(divergence, rule).tolist() == [[INF] * 4]
    assert first_switch(divergence, torch.ones_like(divergence), rule).tolist() == [-1]


def test_without_min_history_the_first_token_trips_if_it_exceeds_the_floor():
    divergence, mask = torch.tensor([[9.0, 0.1, 0.1]]), torch.tensor([[0, 1, 1]])
    assert first_switch(divergence, mask, SwitchRule(min_history=0)).tolist() == [1]
    assert first_switch(divergence, mask, SwitchRule(min_history=0, floor=0.2)).tolist() == [-1]


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
def test_ties_do_not_trip(values):
    divergence = torch.tensor([values])
    rule = SwitchRule(multiplier=1.0, window=1, min_history=1)
    assert switch_threshold(divergence, rule)[0, 1:].tolist() == values[1:]
    assert first_switch(divergence, torch.ones_like(divergence), rule).tolist() == [-1]


def test_a_row_of_padding_never_switches():
    rule = SwitchRule(min_history=0)
    assert first_switch(torch.full((1, 3), 9.0), torch.zeros(1, 3), rule).tolist() == [-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"multiplier": 0.0}, r"multiplier \(K\) must be greater than 0, got 0\.0"),
        ({"multiplier": -1.0}, r"multiplier \(K\) must be greater than 0, got -1\.0"),
        ({"multiplier": math.nan}, r"multiplier \(K\) must be greater than 0, got nan"),
        ({"window": 0}, r"window \(L\) must be a whole number of tokens, 1 or more, got 0"),
        ({"min_history": -1}, r"min_history must be a whole number of tokens, 0 or more, got -1"),
        ({"floor": -0.1}, r"floor must be a finite number of nats, 0 or more, got -0\.1"),
        ({"floor": INF}, r"floor must be a finite number of nats, 0 or more, got inf"),
        ({"floor": math.nan}, r"floor must be a finite number of nats, 0 or more, got nan"),
    ],
)
def test_a_rule_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SwitchRule(**arguments)


def test_a_window_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"window \(L\) must be a whole number of tokens, 1 or more, got 0"):
        moving_average(FIVE, window=0)
