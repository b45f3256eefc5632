"""The losses: by hand, against plain autograd, one shift for every source of text, and Σ/Σ over batches."""

import math
from math import log

import pytest
import torch

from adaswitch_lib import losses
from adaswitch_lib.divergence import DIVERGENCES, forward_kl
from adaswitch_lib.generation import generate
from adaswitch_lib.losses import completion_logits, distillation_loss, nll_loss
from adaswitch_lib.models import load_pair
from adaswitch_lib.policies import AdaSwitch, OffPolicy, OnPolicy
from adaswitch_lib.rollout import Rollout
from adaswitch_lib.switching import SwitchRule

torch.set_num_threads(1)

EVERY = pytest.mark.parametrize("name", DIVERGENCES)


def random_logits(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [(2 * torch.randn(*shape, generator=generator)).to(dtype) for _ in range(2)]


def gradient_of(loss, student):
    """The value, and the gradient with respect to the student's logits."""
    student = student.detach().clone().requires_grad_()
    value = loss(student)
    value.backward()
    return value.detach(), student.grad


# ── by hand ────────────────────────────────────────────────────────────────────────────────────────────────────────
# three tokens over two words; p_T = (1/2, 1/2) everywhere, p_S = (1/4, 3/4), (1/2, 1/2), (1/8, 7/8)
TEACHER = torch.tensor([[[1 / 2, 1 / 2]] * 3]).log()
STUDENT = torch.tensor([[[1 / 4, 3 / 4], [1 / 2, 1 / 2], [1 / 8, 7 / 8]]]).log()
FIRST, SECOND, THIRD = 1 / 2 * log(2) + 1 / 2 * log(2 / 3), 0.0, 1 / 2 * log(4) + 1 / 2 * log(4 / 7)


def test_distillation_loss_by_hand():
    loss = distillation_loss(TEACHER, STUDENT, torch.ones(1, 3))
    assert loss.item() == pytest.approx((FIRST + SECOND + THIRD) / 3, rel=1e-5)


def test_distillation_loss_by_hand_with_a_mask_and_a_count():
    mask = torch.tensor([[1, 1, 0]])
    assert distillation_loss(TEACHER, STUDENT, mask).item() == pytest.approx((FIRST + SECOND) / 2, rel=1e-5)
    loss = distillation_loss(TEACHER, STUDENT, mask, num_tokens=10)
    assert loss.item() == pytest.approx((FIRST + SECOND) / 10, rel=1e-5)


def test_nll_loss_by_hand():
    # the words written are 0, 1, 1: −log 1/4, −log 1/2, −log 7/8
    ids = torch.tensor([[0, 1, 1]])
    loss = nll_loss(STUDENT, ids, torch.ones(1, 3))
    assert loss.item() == pytest.approx((log(4) + log(2) + log(8 / 7)) / 3, rel=1e-5)
    mask = torch.tensor([[1, 1, 0]])
    assert nll_loss(STUDENT, ids, mask, num_tokens=10).item() == pytest.approx((log(4) + log(2)) / 10, rel=1e-5)


def test_temperature_divides_both_logits_and_the_loss_is_not_multiplied_by_its_square():
    # p_T = (9, 1)/10 and p_S = (1, 1)/2; at temperature 2 p_T has weights √9 : √1, that is (3, 1)/4
    teacher, student = torch.tensor([[[log(9), 0.0]]]), torch.zeros(1, 1, 2)
    loss = distillation_loss(teacher, student, torch.ones(1, 1), temperature=2.0)
    assert loss.item() == pytest.approx(3 / 4 * log(3 / 2) + 1 / 4 * log(1 / 2), rel=1e-5)
    # the other way round the student's logits are the ones divided
    loss = distillation_loss(student, teacher, torch.ones(1, 1), temperature=2.0)
    assert loss.item() == pytest.approx(1 / 2 * log(2 / 3) + 1 / 2 * log(2), rel=1e-5)


# ── chunks ─────────────────────────────────────────────────────────────────────────────────────────────────────────
MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]])


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk_elements", [1, 3 * 11])
def test_chunks_equal_plain_autograd(monkeypatch, name, dtype, chunk_elements):
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", chunk_elements)
    teacher, student = random_logits(3, 4, 11, dtype=dtype)
    value, gradient = gradient_of(lambda s: distillation_loss(teacher, s, MASK, name, temperature=1.5), student)
    plain, plain_gradient = gradient_of(
        lambda s: DIVERGENCES[name](teacher.float() / 1.5, s.float() / 1.5)[MASK.bool()].sum() / MASK.sum(), student
    )
    torch.testing.assert_close(value, plain, rtol=1e-5, atol=1e-6)
    assert gradient.dtype == dtype
    # in bfloat16 the gradient is rounded once more, when the mean is taken
    tolerance = {"rtol": 1e-4, "atol": 1e-7} if dtype == torch.float32 else {"rtol": 2**-6, "atol": 1e-6}
    torch.testing.assert_close(gradient, plain_gradient, **tolerance)


@pytest.mark.parametrize("chunk_elements", [1, 3 * 11])
def test_chunks_of_nll_equal_plain_autograd(monkeypatch, chunk_elements):
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", chunk_elements)
    student = random_logits(3, 4, 11)[0]
    ids = torch.arange(12).reshape(3, 4) % 11
    value, gradient = gradient_of(lambda s: nll_loss(s, ids, MASK), student)
    real, cross_entropy = MASK.bool(), torch.nn.functional.cross_entropy
    plain, plain_gradient = gradient_of(lambda s: cross_entropy(s[real], ids[real]), student)
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(gradient, plain_gradient)


def test_no_block_in_float32_is_larger_than_a_chunk(monkeypatch):
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", 2 * 11)
    seen = []

    def spy(teacher, student):
        seen.append(student.numel())
        return forward_kl(teacher, student)

    monkeypatch.setitem(DIVERGENCES, "forward_kl", spy)
    distillation_loss(*random_logits(3, 4, 11), MASK)
    assert seen == [22, 22, 22, 22]  # 8 real tokens


def test_the_gradient_is_multiplied_by_what_comes_from_above():
    teacher, student = random_logits(3, 4, 11)
    once, thrice = (gradient_of(lambda s, k=k: k * distillation_loss(teacher, s, MASK), student)[1] for k in (1, 3))
    torch.testing.assert_close(thrice, 3 * once)


def test_gradients_flow_to_the_student_alone():
    teacher, student = (logits.requires_grad_() for logits in random_logits(3, 4, 11))
    distillation_loss(teacher, student, MASK).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


# ── padding ────────────────────────────────────────────────────────────────────────────────────────────────────────
def both_losses():
    teacher, student = random_logits(3, 4, 11)
    ids = torch.arange(12).reshape(3, 4) % 11
    return teacher, student, ids


@pytest.mark.parametrize("filler", [0.0, 1e4, math.nan])
def test_extra_padding_changes_no_loss(filler):
    teacher, student, ids = both_losses()
    wide_teacher, wide_student = (torch.nn.functional.pad(x, (0, 0, 0, 3), value=filler) for x in (teacher, student))
    wide_ids, wide_mask = (torch.nn.functional.pad(x, (0, 3)) for x in (ids, MASK))
    wide_loss = distillation_loss(wide_teacher, wide_student, wide_mask)
    torch.testing.assert_close(wide_loss, distillation_loss(teacher, student, MASK))
    torch.testing.assert_close(nll_loss(wide_student, wide_ids, wide_mask), nll_loss(student, ids, MASK))


def test_padding_gets_no_gradient_and_every_real_token_does():
    teacher, student, ids = both_losses()
    for loss in (lambda s: distillation_loss(teacher, s, MASK), lambda s: nll_loss(s, ids, MASK)):
        gradient = gradient_of(loss, student)[1]
        assert torch.equal(gradient.abs().sum(-1) > 0, MASK.bool())


@pytest.mark.parametrize("num_tokens", [None, 7])
def test_a_batch_of_padding_gives_zero_and_a_gradient_of_zero(num_tokens):
    teacher, student, ids = both_losses()
    none = torch.zeros_like(MASK)
    for loss in (
        lambda s: distillation_loss(teacher, s, none, num_tokens=num_tokens),
        lambda s: nll_loss(s, ids, none, num_tokens=num_tokens),
    ):
        value, gradient = gradient_of(loss, student)
        assert value == 0 and torch.equal(gradient, torch.zeros_like(gradient))


# ── accumulation ───────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", ["distillation", "nll"])
def test_one_batch_of_eight_equals_eight_batches_of_one(kind):
    teacher, student = random_logits(8, 6, 11)
    ids = torch.arange(48).reshape(8, 6) % 11
    lengths = torch.tensor([6, 1, 3, 2, 6, 5, 1, 4])
    mask = (torch.arange(6) < lengths[:, None]).long()

    def loss(logits, rows, count):
        if kind == "nll":
            return nll_loss(logits[rows], ids[rows], mask[rows], count)
        return distillation_loss(teacher[rows], logits[rows], mask[rows], num_tokens=count)

    together, gradient = gradient_of(lambda s: loss(s, slice(None), None), student)
    for count in (28, torch.tensor(28)):
        apart, gradient_apart = gradient_of(lambda s, n=count: sum(loss(s, [i], n) for i in range(8)), student)
        torch.testing.assert_close(apart, together, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(gradient_apart, gradient, rtol=1e-6, atol=1e-6)
    # the trap: a mean of means is another number
    means = sum(loss(student, [i], None) for i in range(8)) / 8
    assert (means - together).abs() > 1e-2


# ── one shift for all sources ──────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module", params=["llama", "gpt2"])  # gpt2 has absolute positions, which padding must not shift
def pair(request):
    return load_pair("tiny", architecture=request.param)


PROMPTS = torch.tensor([[0, 0, 1, 7], [1, 5, 9, 20]])
PROMPT_MASK = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])


def data(pad, eos):
    """Two completions, padded; each ends in EOS."""
    ids = torch.tensor([[8, 9, 10, eos, pad], [11, eos, pad, pad, pad]])
    return Rollout.from_data(PROMPTS, PROMPT_MASK, ids, torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]))


def written(pair, policy):
    return generate(
        policy,
        pair.teacher,
        pair.student,
        PROMPTS,
        PROMPT_MASK,
        max_new_tokens=6,
        row_seeds=[5, 8],
        eos_token_id=2,
        pad_token_id=0,
        keep_teacher_logits=True,
    )


SWITCHING = AdaSwitch(SwitchRule(multiplier=0.5, window=2, min_history=2))
POLICIES = [None, OnPolicy(), OffPolicy(), SWITCHING]
SOURCES = pytest.mark.parametrize("policy", POLICIES, ids=["data", "on", "off", "ada"])


@SOURCES
def test_logits_at_position_i_are_those_after_the_token_before(pair, policy):
    rollout = data(pad=0, eos=2) if policy is None else written(pair, policy)
    logits = completion_logits(pair.student, rollout)
    assert logits.shape[:2] == rollout.completion_ids.shape
    for row in range(2):
        prompt = rollout.prompt_ids[row][rollout.prompt_mask[row].bool()]
        completion = rollout.completion_ids[row][rollout.completion_mask[row].bool()]
        assert len(completion) > 1
        for i in range(len(completion)):  # an unpadded row that ends with the token before token i
            alone = pair.student(torch.cat([prompt, completion[:i]])[None]).logits[0, -1]
            torch.testing.assert_close(logits[row, i], alone, rtol=1e-4, atol=1e-4)


@SOURCES
def test_nll_equals_that_of_unpadded_rows(pair, policy):
    rollout = data(pad=0, eos=2) if policy is None else written(pair, policy)
    total = 0.0
    for row in range(2):
        prompt = rollout.prompt_ids[row][rollout.prompt_mask[row].bool()]
        sequence = torch.cat([prompt, rollout.completion_ids[row][rollout.completion_mask[row].bool()]])
        log_probs = pair.student(sequence[None]).logits[0].log_softmax(-1)
        total -= sum(log_probs[i - 1, sequence[i]] for i in range(len(prompt), len(sequence)))
    loss = nll_loss(completion_logits(pair.student, rollout), rollout.completion_ids, rollout.completion_mask)
    torch.testing.assert_close(loss, total / rollout.completion_mask.sum(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("policy", [OnPolicy(), OffPolicy(), SWITCHING], ids=["on", "off", "ada"])
def test_the_mean_divergence_of_a_rollout_is_its_loss(pair, policy):
    rollout = written(pair, policy)
    real = rollout.completion_mask.bool()
    for teacher in (rollout.teacher_logits, completion_logits(pair.teacher, rollout)):
        loss = distillation_loss(teacher, completion_logits(pair.student, rollout), real)
        torch.testing.assert_close(loss, rollout.divergence[real].mean(), rtol=1e-4, atol=1e-5)


def test_wider_rollouts_have_the_same_loss(pair):
    rollout = data(pad=0, eos=2)
    left, right = (2, 0), (0, 3)
    wide = Rollout.from_data(
        torch.nn.functional.pad(rollout.prompt_ids, left),
        torch.nn.functional.pad(rollout.prompt_mask, left),
        torch.nn.functional.pad(rollout.completion_ids, right, value=5),
        torch.nn.functional.pad(rollout.completion_mask, right),
    )
    narrow_loss, wide_loss = (
        nll_loss(completion_logits(pair.student, r), r.completion_ids, r.completion_mask) for r in (rollout, wide)
    )
    torch.testing.assert_close(wide_loss, narrow_loss, rtol=1e-5, atol=1e-5)


def test_eos_is_trained_on_where_it_is_also_the_padding_id(pair):
    rollout = data(pad=2, eos=2)
    teacher = completion_logits(pair.teacher, rollout).detach()
    student = completion_logits(pair.student, rollout)
    for loss in (
        lambda s: nll_loss(s, rollout.completion_ids, rollout.completion_mask),
        lambda s: distillation_loss(teacher, s, rollout.completion_mask),
    ):
        trained = gradient_of(loss, student)[1].abs().sum(-1) > 1e-4
        # row 0 has its EOS at position 3, row 1 at position 1; what follows is padding with the same id
        assert trained.tolist() == [[True, True, True, True, False], [True, True, False, False, False]]


def test_gradients_reach_the_model_through_completion_logits(pair):
    rollout = data(pad=0, eos=2)
    loss = nll_loss(completion_logits(pair.student, rollout), rollout.completion_ids, rollout.completion_mask)
    gradients = torch.autograd.grad(loss, list(pair.student.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients) and sum(g.abs().sum() for g in gradients) > 0


@pytest.mark.parametrize("training", [True, False])
def test_completion_logits_leave_the_mode_as_it_is(pair, training):
    pair.student.train(training)
    completion_logits(pair.student, data(pad=0, eos=2))
    mode = pair.student.training
    pair.student.eval()
    assert mode is training


# ── autograd's edges ───────────────────────────────────────────────────────────────────────────────────────────────
def test_without_gradients_the_value_is_the_same_and_no_gradient_is_made(monkeypatch):
    teacher, student, ids = both_losses()
    student.requires_grad_()
    values = [loss.item() for loss in (distillation_loss(teacher, student, MASK), nll_loss(student, ids, MASK))]

    def refuse(*_, **__):
        raise AssertionError("a gradient was made under no_grad")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    with torch.no_grad():
        quiet = [distillation_loss(teacher, student, MASK), nll_loss(student, ids, MASK)]
    assert [loss.item() for loss in quiet] == values and not any(loss.requires_grad for loss in quiet)


def test_a_loss_is_differentiated_once():
    teacher, student = random_logits(3, 4, 11)
    loss = distillation_loss(teacher, student.requires_grad_(), MASK)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        loss.backward()


def test_there_is_no_second_derivative():
    teacher, student = random_logits(3, 4, 11)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(distillation_loss(teacher, student, MASK).square(), student, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# ── errors ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_above_zero_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be greater than 0"):
        distillation_loss(TEACHER, STUDENT, torch.ones(1, 3), temperature=temperature)


@pytest.mark.parametrize(
    ("teacher", "student", "mask"),
    [((2, 3, 5), (2, 3, 4), (2, 3)), ((2, 3, 5), (2, 4, 5), (2, 3)), ((2, 3, 5), (2, 3, 5), (2, 4)), ((2, 3, 5),) * 3],
)
def test_shapes_that_do_not_fit_are_refused_by_the_distillation_loss(teacher, student, mask):
    with pytest.raises(ValueError, match=r"logits must be \[batch pos vocab\] and the mask \[batch pos\]"):
        distillation_loss(torch.zeros(teacher), torch.zeros(student), torch.ones(mask))


@pytest.mark.parametrize(("ids", "mask"), [((2, 4), (2, 3)), ((2, 3), (2, 4)), ((2, 4), (2, 4)), ((6,), (6,))])
def test_shapes_that_do_not_fit_are_refused_by_the_nll(ids, mask):
    with pytest.raises(ValueError, match=r"logits must be \[batch pos vocab\], ids and mask \[batch pos\]"):
        nll_loss(torch.zeros(2, 3, 5), torch.zeros(ids, dtype=torch.long), torch.ones(mask))


def test_an_unknown_divergence_is_refused():
    with pytest.raises(ValueError, match="unknown divergence 'kl'"):
        distillation_loss(TEACHER, STUDENT, torch.ones(1, 3), divergence="kl")
