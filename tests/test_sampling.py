"""Sampling: the right distribution, never an impossible id, and rows that depend on their seed alone."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from adaswitch_lib.generation.sampling import row_uniforms, sample

torch.set_num_threads(1)

INF = math.inf
LARGEST_BELOW_ONE = math.nextafter(1.0, 0.0)


def draw(logits, uniform, temperature=1.0):
    """The token that one row of logits gives for one uniform."""
    return sample(torch.tensor([logits]), torch.tensor([uniform], dtype=torch.float64), temperature)[0].item()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("column", [(0, 0), (3, 1)])
def test_tokens_of_many_row_seeds_follow_the_softmax(temperature, column):
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5, -2.0])
    uniforms = row_uniforms(range(6000), 4)[:, column[0], column[1]]
    counts = sample(logits.expand(6000, -1), uniforms, temperature)[0].bincount(minlength=5)
    weights = np.exp(logits.double().numpy() / temperature)
    assert chisquare(counts.numpy(), 6000 * weights / weights.sum()).pvalue > 1e-3


def test_positions_and_writers_draw_independently():
    # each row's pair of draws at p = 1/2: four cells of 1/4
    uniforms = row_uniforms(range(4000), 2)
    for a, b in ((uniforms[:, 0, 0], uniforms[:, 0, 1]), (uniforms[:, 0, 0], uniforms[:, 1, 0])):
        cells = (2 * (a > 0.5).long() + (b > 0.5).long()).bincount(minlength=4)
        assert chisquare(cells.numpy()).pvalue > 1e-3


def test_neighbouring_seeds_draw_independently():
    first = row_uniforms(range(4001), 1)[:, 0, 0] > 0.5
    cells = (2 * first[:-1].long() + first[1:].long()).bincount(minlength=4)
    assert chisquare(cells.numpy()).pvalue > 1e-3


def test_inverse_cdf_by_hand():
    # p = (1/2, 1/4, 1/4), cumulative 1/2, 3/4, 1: the first id whose cumulative probability exceeds u
    logits = [math.log(2), 0.0, 0.0]
    assert [draw(logits, u) for u in (0.0, 0.49, 0.51, 0.74, 0.76, LARGEST_BELOW_ONE)] == [0, 0, 1, 1, 2, 2]


def test_temperature_divides_the_logits():
    # at 1/2 the weights are squared: p = (4, 1, 1)/6, so u = 0.6 still gives id 0
    logits = [math.log(2), 0.0, 0.0]
    assert (draw(logits, 0.6, temperature=0.5), draw(logits, 0.6, temperature=1.0)) == (0, 1)


@pytest.mark.parametrize("uniform", [0.0, 0.5, LARGEST_BELOW_ONE])
@pytest.mark.parametrize("possible", [{1}, {1, 2}, {0}, {3}])
def test_an_id_of_probability_zero_is_never_drawn(uniform, possible):
    logits = [0.3 if token in possible else -INF for token in range(5)]
    assert draw(logits, uniform) in possible


def test_an_impossible_last_id_is_not_drawn_however_the_sum_rounds():
    logits = torch.randn(500, 1000, generator=torch.Generator().manual_seed(0))
    logits[:, -1] = -INF
    uniforms = torch.full((500,), LARGEST_BELOW_ONE, dtype=torch.float64)
    tokens, _ = sample(logits, uniforms, 1.0)
    assert logits.gather(1, tokens[:, None]).isfinite().all()


def test_greedy_takes_the_likeliest_and_the_lowest_of_equals():
    logits = torch.tensor([[0.0, 3.0, 1.0, 3.0], [5.0, 5.0, 5.0, 5.0], [-INF, -INF, 0.0, -1.0]])
    assert sample(logits, torch.full((3,), 0.99), 0.0)[0].tolist() == [1, 0, 2]


def test_a_row_of_uniforms_depends_on_its_seed_alone():
    together = row_uniforms([5, 7, 5], 3)
    assert together.shape == (3, 3, 2) and together.dtype == torch.float64
    assert torch.equal(together[1:2], row_uniforms([7], 3))
    assert torch.equal(together[0], together[2]) and not torch.equal(together[0], together[1])


def test_seeds_of_64_bits_count_whole():
    # what a training loop may use: the step above, the row below
    seeds = [step * 2**32 + row for step in range(40) for row in range(40)]
    first = row_uniforms(seeds, 1)[:, 0, 0]
    assert len(set(first.tolist())) == len(seeds)
    assert kstest(first.numpy(), "uniform").pvalue > 1e-3
    by_step = (first.view(40, 40) > 0.5).long()
    for one, other in ((by_step[:-1], by_step[1:]), (by_step[:, :-1], by_step[:, 1:])):  # neighbours draw independently
        cells = (2 * one + other).flatten().bincount(minlength=4)
        assert chisquare(cells.numpy()).pvalue > 1e-3
    ends = row_uniforms([-1, 2**64 - 1, -(2**63), 2**63, 2**63 - 1, 0, 2**32 - 1], 3)
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[2], ends[3]) and len(set(ends[:, 0, 0].tolist())) == 5


def test_seeds_of_32_bits_draw_what_they_drew_before():
    """Kept results were made with such seeds."""
    generator = torch.Generator().manual_seed(123)
    assert torch.equal(row_uniforms([123], 5)[0], torch.rand(5, 2, generator=generator, dtype=torch.float64))


def test_first_uniforms_do_not_depend_on_the_number_of_positions():
    longest = row_uniforms([3], 40)
    assert all(torch.equal(longest[:, :n], row_uniforms([3], n)) for n in range(1, 40))


def test_uniforms_lie_below_one():
    uniforms = row_uniforms(range(100), 50)
    assert uniforms.min() >= 0 and uniforms.max() < 1


def test_the_global_random_state_is_neither_read_nor_changed():
    torch.manual_seed(1)
    state, first = torch.get_rng_state(), row_uniforms([3], 5)
    sample(torch.zeros(1, 4), first[:, 0, 0], 1.0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(row_uniforms([3], 5), first)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("row", [[0.0, math.nan, 1.0], [-INF] * 3, [0.0, INF, 1.0], [0.0, 1.0, math.nan]])
def test_a_row_without_a_distribution_is_told_apart(row, temperature):
    logits = torch.tensor([[0.0, 1.0, 2.0], row])
    _, bad = sample(logits, torch.tensor([0.5, 0.5], dtype=torch.float64), temperature)
    assert bad.tolist() == [False, True]
