"""The six divergences: by hand, against numpy and TRL, and where a model rules ids out."""

import math
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.experimental.gkd import GKDTrainer

from adaswitch_lib.divergence import (
    _KL,
    DIVERGENCES,
    divergence_function,
    forward_kl,
    jensen_shannon,
    reverse_kl,
    skewed_forward_kl,
    skewed_reverse_kl,
    total_variation,
)

torch.set_num_threads(1)

INF = math.inf
EVERY = pytest.mark.parametrize("name", DIVERGENCES)


def random_pair(*shape, seed=0, scale=2.0):
    """Teacher and student logits."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator), scale * torch.randn(*shape, generator=generator)


# ── by hand: p_T = (1/2, 1/4, 1/4), p_S = (1/8, 1/8, 3/4) ──────────────────────────────────────────────────────────
P_T, P_S = (1 / 2, 1 / 4, 1 / 4), (1 / 8, 1 / 8, 3 / 4)
FORWARD = 1 / 2 * log(4) + 1 / 4 * log(2) + 1 / 4 * log(1 / 3)
REVERSE = 1 / 8 * log(1 / 4) + 1 / 8 * log(1 / 2) + 3 / 4 * log(3)
# β = 1/2: m = (5/16, 3/16, 1/2)
JSD = 1 / 2 * (1 / 2 * log(8 / 5) + 1 / 4 * log(4 / 3) + 1 / 4 * log(1 / 2)) + 1 / 2 * (
    1 / 8 * log(2 / 5) + 1 / 8 * log(2 / 3) + 3 / 4 * log(3 / 2)
)
# α = 1/10: p_T/10 + 9 p_S/10 = (13/80, 11/80, 7/10) and 9 p_T/10 + p_S/10 = (37/80, 19/80, 3/10)
SKEWED_FORWARD = 1 / 2 * log(40 / 13) + 1 / 4 * log(20 / 11) + 1 / 4 * log(5 / 14)
SKEWED_REVERSE = 1 / 8 * log(10 / 37) + 1 / 8 * log(10 / 19) + 3 / 4 * log(5 / 2)
TOTAL_VARIATION = 1 / 2 * (3 / 8 + 1 / 8 + 1 / 2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("forward_kl", FORWARD),
        ("reverse_kl", REVERSE),
        ("jensen_shannon", JSD),
        ("skewed_forward_kl", SKEWED_FORWARD),
        ("skewed_reverse_kl", SKEWED_REVERSE),
        ("total_variation", TOTAL_VARIATION),
    ],
)
def test_by_hand(name, expected):
    value = DIVERGENCES[name](torch.tensor(P_T).log(), torch.tensor(P_S).log())
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_beta_is_the_teachers_weight_by_hand():
    # β = 1/4 on two words, p_T = (1, 0), p_S = (1/2, 1/2): m = (5/8, 3/8)
    expected = 1 / 4 * log(8 / 5) + 3 / 4 * (1 / 2 * log(4 / 5) + 1 / 2 * log(4 / 3))
    value = jensen_shannon(torch.tensor([0.0, -INF]), torch.zeros(2), beta=1 / 4)
    assert value.item() == pytest.approx(expected, rel=1e-5)


# ── oracles ────────────────────────────────────────────────────────────────────────────────────────────────────────
def oracle(name, teacher, student):
    """The definitions on probabilities, in float64 numpy."""
    p, q = (np.exp(x - x.max(-1, keepdims=True)) for x in (teacher, student))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)

    def kl(a, b):
        return (a * np.log(a / b) - a + b).sum(-1)  # b − a sums to 0, and takes the rounding away where a is close to b

    return {
        "forward_kl": lambda: kl(p, q),
        "reverse_kl": lambda: kl(q, p),
        "jensen_shannon": lambda: 0.5 * kl(p, (p + q) / 2) + 0.5 * kl(q, (p + q) / 2),
        "skewed_forward_kl": lambda: kl(p, 0.1 * p + 0.9 * q),
        "skewed_reverse_kl": lambda: kl(q, 0.9 * p + 0.1 * q),
        "total_variation": lambda: 0.5 * np.abs(p - q).sum(-1),
    }[name]()


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equals_a_float64_oracle_on_the_upcast_logits(name, dtype):
    teacher, student = (logits.to(dtype) for logits in random_pair(3, 4, 200))
    value = DIVERGENCES[name](teacher, student)
    assert value.shape == (3, 4) and value.dtype == torch.float32
    expected = oracle(name, teacher.double().numpy(), student.double().numpy())
    np.testing.assert_allclose(value.numpy(), expected, rtol=2e-5)


CLOSE = [(torch.float32, 10.0**-digits) for digits in range(5)] + [(torch.bfloat16, 0.1), (torch.bfloat16, 0.5)]


@EVERY
@pytest.mark.parametrize(("dtype", "noise"), CLOSE)
@pytest.mark.parametrize(("size", "shift"), [(146, 0.0), (20_000, 20.0)])
def test_is_as_exact_where_the_models_are_close(name, dtype, noise, size, shift):
    teacher, other = random_pair(20, size)
    student = (teacher + shift + noise * other).to(dtype)
    teacher = (teacher + shift).to(dtype)
    value = DIVERGENCES[name](teacher, student).numpy()
    expected = oracle(name, teacher.double().numpy(), student.double().numpy())
    # logits of size 20 are rounded by 1e-6, of which a KL feels the square, and a product with the distance itself
    np.testing.assert_allclose(value, expected, rtol=max(1e-4, 2e-6 / noise), atol=1e-7 if name == "total_variation" else 1e-11)


def trl(teacher, student, beta):
    """TRL's loss a token. It takes the student first; inside (0, 1) its β is ours, the weight of the teacher:
    β·KL(p_T ‖ m) + (1−β)·KL(p_S ‖ m), m = β·p_T + (1−β)·p_S."""
    return GKDTrainer.generalized_jsd_loss(student, teacher, beta=beta, reduction="none").sum(-1)


@pytest.mark.parametrize("beta", [0.05, 0.1, 0.3, 0.5, 0.9])
def test_jensen_shannon_equals_trl_inside(beta):
    teacher, student = random_pair(2, 5, 50)
    value = jensen_shannon(teacher, student, beta)
    torch.testing.assert_close(value, trl(teacher, student, beta), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("beta", "ours"), [(0, forward_kl), (1, reverse_kl)])
def test_the_kls_equal_what_trl_returns_at_the_ends_of_beta(beta, ours):
    teacher, student = random_pair(2, 5, 50)
    torch.testing.assert_close(ours(teacher, student), trl(teacher, student, beta), rtol=1e-5, atol=1e-5)


# ── ends of β and α ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("beta", [1e-4, 1 - 1e-4])
def test_jensen_shannon_does_not_jump_near_the_ends_of_beta(beta):
    teacher, student = random_pair(10, 50)
    # JSD(β) ≤ the entropy of a coin of β, about 0.001 nats at 1e-4
    coin = -beta * log(beta) - (1 - beta) * math.log1p(-beta)
    assert jensen_shannon(teacher, student, beta).max() < coin < 0.01 < forward_kl(teacher, student).min()


@pytest.mark.parametrize("beta", [0, 1, 0.0, 1.0, -0.1, 1.1, math.nan])
def test_jensen_shannon_refuses_the_ends_of_beta_and_names_the_kls(beta):
    with pytest.raises(ValueError, match=r"beta must lie inside \(0, 1\).*forward_kl.*reverse_kl"):
        jensen_shannon(*random_pair(3), beta=beta)


SKEWED_AND_PLAIN = [(skewed_forward_kl, forward_kl), (skewed_reverse_kl, reverse_kl)]
SKEWED = pytest.mark.parametrize(("skewed", "plain"), SKEWED_AND_PLAIN)


@SKEWED
def test_alpha_zero_is_the_plain_kl(skewed, plain):
    pair = random_pair(10, 50)
    torch.testing.assert_close(skewed(*pair, alpha=0), plain(*pair))


@SKEWED
def test_small_alpha_is_near_the_plain_kl(skewed, plain):
    pair = random_pair(10, 50)
    torch.testing.assert_close(skewed(*pair, alpha=1e-6), plain(*pair), rtol=1e-3, atol=1e-3)


@SKEWED
def test_alpha_near_one_tends_to_zero(skewed, plain):
    pair = random_pair(10, 50)
    assert skewed(*pair, alpha=1 - 1e-4).abs().max() < 1e-3 < plain(*pair).min()


@SKEWED
@pytest.mark.parametrize("alpha", [1, -0.1, 1.5, math.nan])
def test_alpha_out_of_range_is_refused(skewed, plain, alpha):
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\)"):
        skewed(*random_pair(3), alpha=alpha)


# ── ids that a model rules out ─────────────────────────────────────────────────────────────────────────────────────
@EVERY
def test_ids_that_both_rule_out_change_neither_value_nor_gradient(name):
    pairs = []
    for ruled_out in (0, 4):
        teacher, student = (torch.nn.functional.pad(x, (0, ruled_out), value=-INF) for x in random_pair(6, 20))
        student.requires_grad_()
        value = DIVERGENCES[name](teacher, student)
        (gradient,) = torch.autograd.grad(value.sum(), student)
        pairs.append((value.detach(), gradient))
    (short, short_gradient), (long, long_gradient) = pairs
    torch.testing.assert_close(long, short)
    torch.testing.assert_close(long_gradient, torch.nn.functional.pad(short_gradient, (0, 4)))


@EVERY
def test_ids_that_the_student_alone_rules_out(name):
    # p_T = (1/2, 1/2), p_S = (1, 0)
    expected = {
        "forward_kl": INF,
        "reverse_kl": log(2),
        "jensen_shannon": 1 / 2 * (1 / 2 * log(2 / 3) + 1 / 2 * log(2)) + 1 / 2 * log(4 / 3),
        "skewed_forward_kl": 1 / 2 * log(10 / 19) + 1 / 2 * log(10),
        "skewed_reverse_kl": log(20 / 11),
        "total_variation": 1 / 2,
    }
    value = DIVERGENCES[name](torch.zeros(2), torch.tensor([0.0, -INF])).item()
    assert value == pytest.approx(expected[name], rel=1e-5)


@pytest.mark.parametrize("name", [name for name in DIVERGENCES if name != "reverse_kl"])
def test_ids_that_the_teacher_alone_rules_out_leave_value_and_gradient_finite(name):
    student = torch.zeros(3, requires_grad=True)
    value = DIVERGENCES[name](torch.tensor([0.0, 0.0, -INF]), student)
    assert value.isfinite() and torch.autograd.grad(value, student)[0].isfinite().all()


@pytest.mark.parametrize("far", [50.0, 100.0, 200.0, 1e4])
def test_ids_whose_probability_underflows_weigh_by_the_other_model(far):
    # p_T = (1, 0, 0) up to e^−far; p_S = (1, 1, 1)/3
    teacher, student = torch.tensor([0.0, -far, -far]), torch.zeros(3)
    assert forward_kl(teacher, student).item() == pytest.approx(log(3), rel=1e-6)
    assert reverse_kl(teacher, student).item() == pytest.approx(2 / 3 * far - log(3), rel=1e-6)
    gradient = torch.autograd.grad(forward_kl(teacher, student.requires_grad_()), student)[0]
    torch.testing.assert_close(gradient, torch.tensor([-2 / 3, 1 / 3, 1 / 3]))


def test_reverse_kl_is_infinite_where_the_teacher_alone_rules_an_id_out():
    assert reverse_kl(torch.tensor([0.0, -INF]), torch.zeros(2)).item() == INF


# ── gradients ──────────────────────────────────────────────────────────────────────────────────────────────────────
@EVERY
def test_the_students_gradient_equals_finite_differences(name):
    teacher, student = random_pair(6, scale=1.0)
    (gradient,) = torch.autograd.grad(DIVERGENCES[name](teacher, student.requires_grad_()), student)
    step = 1e-5 * np.eye(6)
    t, s = teacher.double().numpy(), student.detach().double().numpy()
    differences = (oracle(name, t, s + step) - oracle(name, t, s - step)) / 2e-5
    np.testing.assert_allclose(gradient.numpy(), differences, rtol=1e-3, atol=1e-5)


def test_the_gradient_of_the_kl_equals_finite_differences_in_float64():
    p, q = (logits.double().requires_grad_() for logits in random_pair(3, 7))
    kl = lambda p, q: _KL.apply(p.log_softmax(-1), q.log_softmax(-1))  # noqa: E731
    assert torch.autograd.gradcheck(kl, (p, q))
    assert torch.autograd.gradcheck(kl, (p, (p + 1e-3 * q).detach().requires_grad_()), atol=1e-8)


@pytest.mark.parametrize("name", [name for name in DIVERGENCES if name != "total_variation"])  # which has a kink there
def test_the_gradient_is_exact_where_the_models_are_close(name):
    teacher, student = random_pair(4, 30, scale=1.0)
    student = (teacher + 1e-3 * student).requires_grad_()
    (gradient,) = torch.autograd.grad(DIVERGENCES[name](teacher, student).sum(), student)
    step = 1e-5 * np.eye(30)[:, None]
    t, s = teacher.double().numpy(), student.detach().double().numpy()
    differences = ((oracle(name, t, s + step) - oracle(name, t, s - step)) / 2e-5).T
    np.testing.assert_allclose(gradient.numpy(), differences, rtol=1e-2, atol=1e-8)


@EVERY
def test_extreme_logits_leave_the_gradient_finite(name):
    teacher, student = random_pair(4, 10, scale=200.0)
    value = DIVERGENCES[name](teacher, student.requires_grad_())
    assert value.isfinite().all() and torch.autograd.grad(value.sum(), student)[0].isfinite().all()


# ── what a divergence is ───────────────────────────────────────────────────────────────────────────────────────────
def test_forward_kl_is_cross_entropy_less_the_teachers_entropy():
    teacher, student = random_pair(5, 20)
    p = teacher.softmax(-1)
    cross_entropy = -(p * student.log_softmax(-1)).sum(-1)
    entropy = -(p * teacher.log_softmax(-1)).sum(-1)
    assert entropy.min() > 0.1  # so that the two differ
    torch.testing.assert_close(forward_kl(teacher, student), cross_entropy - entropy, rtol=1e-4, atol=1e-5)


LOGITS = st.lists(st.tuples(*[st.floats(-20, 20, width=32)] * 2), min_size=1, max_size=8)
WILD = st.floats(-1e4, 1e4, width=32) | st.just(-INF)


@EVERY
@settings(deadline=None, max_examples=200)
@given(pairs=LOGITS, more=st.lists(st.tuples(WILD, WILD), max_size=4), apart=st.sampled_from([1.0, 1e-2, 1e-4, 1e-6, 0.0]))
def test_never_negative_and_zero_for_equal_distributions(name, pairs, more, apart):
    teacher, other = torch.tensor([*pairs, *more]).T
    student = torch.where((teacher.abs() < 20) & (other.abs() < 20), teacher + apart * (other - teacher), other)
    measure = DIVERGENCES[name]
    assert measure(teacher, student) >= 0
    assert measure(teacher, teacher) <= 1e-12


@EVERY
@settings(deadline=None, max_examples=50)
@given(pairs=LOGITS, shift=st.integers(-50, 50))
def test_a_constant_added_to_the_logits_changes_nothing(name, pairs, shift):
    teacher, student = torch.tensor(pairs).T
    measure = DIVERGENCES[name]
    shifted = measure(teacher + shift, student - shift)
    torch.testing.assert_close(shifted, measure(teacher, student), rtol=1e-4, atol=1e-4)


@EVERY
def test_different_distributions_differ(name):
    assert (DIVERGENCES[name](*random_pair(20, 30)) > 0.01).all()


def test_jensen_shannon_and_total_variation_are_bounded_where_supports_are_disjoint():
    teacher, student = torch.tensor([0.0, -INF]), torch.tensor([-INF, 0.0])
    assert jensen_shannon(teacher, student).item() == pytest.approx(log(2), rel=1e-6)
    assert total_variation(teacher, student).item() == 1.0


# ── errors ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@EVERY
def test_unequal_vocabularies_are_refused(name):
    with pytest.raises(ValueError, match=r"teacher scores 5 ids and the student 4.*check_shared_vocabulary"):
        DIVERGENCES[name](torch.zeros(2, 5), torch.zeros(2, 4))


def test_a_divergence_is_found_by_its_name():
    assert divergence_function("forward_kl") is forward_kl and len(DIVERGENCES) == 6


def test_an_unknown_name_is_refused_and_the_known_ones_listed():
    with pytest.raises(ValueError, match="unknown divergence 'kl'.*" + ", ".join(DIVERGENCES)):
        divergence_function("kl")
