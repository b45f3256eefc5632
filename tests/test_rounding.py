"""Models that differ by rounding alone, or by little more: what is measured is the difference, and no switch comes of rounding."""

import copy

import pytest
import torch
from helpers import write

from adaswitch_lib import DIVERGENCES, AdaSwitch, Pair, PerTokenSwitch, RandomSwitch, SwitchRule, encode_prompts, load_pair
from adaswitch_lib.experiments.tasks import TASKS
from adaswitch_lib.experiments.teachers import load_teacher

BARE = SwitchRule(floor=0.0)  # the paper's formula
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@pytest.fixture(scope="module")
def shipped():
    """The teacher of the dialogues, its tokenizer, and prompts of the task."""
    teacher, tokenizer = load_teacher("micro_dialog")
    return teacher, tokenizer, encode_prompts(tokenizer, TASKS["micro_dialog"].load("validation", 128, 0)["prompt"])


def in_float64(teacher_logits, student_logits):
    log_p, log_q = (logits.double().log_softmax(-1) for logits in (teacher_logits, student_logits))
    return (log_p.exp() * (log_p - log_q)).sum(-1).float()


def test_rows_of_a_student_that_is_the_teacher_but_for_noise_switch_where_float64_says(shipped, monkeypatch):
    teacher, tokenizer, prompts = shipped
    student = copy.deepcopy(teacher)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in student.parameters():
            weight *= 1 + 1e-3 * torch.randn(weight.shape, generator=generator)
    ours = write(AdaSwitch(BARE), Pair(teacher, student, tokenizer), prompts)
    monkeypatch.setitem(DIVERGENCES, "forward_kl", in_float64)
    exact = write(AdaSwitch(BARE), Pair(teacher, student, tokenizer), prompts)
    assert torch.equal(ours.switch_index, exact.switch_index)
    assert 10 < (ours.switch_index >= 0).sum() < 40
    real = ours.completion_mask.bool()
    assert (ours.divergence[real] >= 0).all()
    torch.testing.assert_close(ours.divergence[real], exact.divergence[real], rtol=2e-2, atol=1e-10)


@DTYPES
@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_student_that_is_the_teacher_never_switches(shipped, dtype, name):
    teacher, tokenizer, (ids, mask) = shipped
    teacher = copy.deepcopy(teacher).to(dtype)
    tiny = load_pair("tiny", dtype=dtype)
    for policy in (AdaSwitch(SwitchRule(min_history=0), name), RandomSwitch(BARE, name)):
        for model, words, prompts in (
            (teacher, tokenizer, (ids[:32], mask[:32])),
            (tiny.teacher, tiny.tokenizer, (torch.arange(4, 20)[:, None], torch.ones(16, 1, dtype=torch.long))),
        ):
            assert (write(policy, Pair(model, model, words), prompts).switch_index == -1).all()


@DTYPES
def test_a_threshold_that_falls_to_zero_leaves_a_student_that_is_the_teacher_alone(shipped, dtype):
    teacher, tokenizer, (ids, mask) = shipped
    teacher = copy.deepcopy(teacher).to(dtype)
    rollout = write(PerTokenSwitch(0.0, 0.0), Pair(teacher, teacher, tokenizer), (ids[:32], mask[:32]))
    assert not (rollout.source == 1).any()


def test_what_bfloat16_cannot_resolve_is_no_jump_under_autocast_either(pair, prompts):
    with torch.autocast("cpu", torch.bfloat16):
        rollout = write(AdaSwitch(SwitchRule(min_history=0)), Pair(pair.teacher, pair.teacher, pair.tokenizer), prompts)
    assert (rollout.switch_index == -1).all() and rollout.threshold.nan_to_num(1).min() == pytest.approx(3e-2)
