"""Students of the lane: their supervised start, distillation by a policy, and what they can do at the end."""

from __future__ import annotations

from functools import lru_cache

import pandas as pd
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from adaswitch_lib.divergence import forward_kl
from adaswitch_lib.experiments.lane.models import new_model, scores, text_loss, train
from adaswitch_lib.experiments.lane.world import END, LENGTH, VOCAB, off_the_path, on_the_path, paths, right_places, sharp
from adaswitch_lib.generation import Policy, generate
from adaswitch_lib.losses import completion_logits, distillation_loss
from adaswitch_lib.policies import OnPolicy
from adaswitch_lib.rollout import Rollout
from adaswitch_lib.trainer import row_seed

STEPS, ROWS, RATE = 100, 96, 3e-3
TEST_ROWS = 256
FAR = 2
"""Places off the path beyond which one is far off."""


@lru_cache(maxsize=2)
def initial_weights(seed: int, steps: int) -> dict[str, Tensor]:
    """Of a student of one layer after so many steps of supervised training on 48 clean texts each."""

    def loss(step: int) -> Tensor:
        prompts = paths(48, row_seed("sft", seed, step))
        return text_loss(model, prompts, on_the_path(prompts), on_the_path(prompts))

    model = new_model(1, seed)
    return train(model, steps, loss, rate=3e-3, warmup=10, last=0.1).state_dict()


def initial_student(seed: int, steps: int) -> LlamaForCausalLM:
    """A fresh copy of it."""
    model = new_model(1, seed)
    model.load_state_dict(initial_weights(seed, steps))
    return model


def write(
    policy: Policy,
    teacher: LlamaForCausalLM,
    student: LlamaForCausalLM,
    prompts: Tensor,
    seeds: list[int],
    gusts: float,
    temperature: float = 1.0,
    record_divergence: bool = False,
) -> Rollout:
    """Texts by a policy. Gusts blow what the student writes; the teacher, once it has taken over, writes greedily: by sampling it
    would garble its own text."""
    return generate(
        policy,
        teacher,
        student,
        prompts,
        torch.ones_like(prompts),
        max_new_tokens=LENGTH,
        row_seeds=seeds,
        temperature=temperature,
        teacher_temperature=0.0,
        student_noise=gusts,
        eos_token_id=END,
        pad_token_id=END,
        block_size=4,
        record_divergence=record_divergence,
        keep_teacher_logits=not isinstance(policy, OnPolicy),
        vocab_size=VOCAB,
    )


def distil(student: LlamaForCausalLM, teacher: LlamaForCausalLM, policy: Policy, gusts: float, seed: int) -> dict[str, float]:
    """Train the student by the forward KL on fresh texts of the policy.

    Returns:
        Of the texts that it learned from, means over all steps: text_right (share of right tokens), advice_right (the teacher's
        mass on the right place), teacher_share (of the tokens), switch_rate and switch_position.
    """
    records = []

    def loss(step: int) -> Tensor:
        prompts = paths(ROWS, row_seed("train", seed, step))
        rollout = write(policy, teacher, student, prompts, [row_seed(seed, step, row) for row in range(ROWS)], gusts)
        advice = rollout.teacher_logits
        if advice is None:
            with torch.no_grad():
                advice = completion_logits(teacher, rollout)
        records.append(_of_texts(rollout, advice))
        return distillation_loss(advice, completion_logits(student, rollout), rollout.completion_mask)

    train(student, STEPS, loss, rate=RATE, warmup=10, last=0.1)
    return pd.DataFrame(records).mean().to_dict()


def _of_texts(rollout: Rollout, advice: Tensor) -> dict[str, float]:
    real = rollout.completion_mask.bool()
    right = right_places(rollout.prompt_ids, rollout.completion_ids).clamp(0, VOCAB - 1)
    mass = advice.float().softmax(-1).gather(-1, right[..., None])[..., 0]
    switched = rollout.switch_index[rollout.switch_index >= 0].float()
    return {
        "text_right": float((rollout.completion_ids == right)[real].float().mean()),
        "advice_right": float(mass[real].mean()),
        "teacher_share": float((rollout.source == 1)[real].float().mean()),
        "switch_rate": len(switched) / len(real),
        "switch_position": float(switched.mean()),
    }


@torch.no_grad()
def evaluate(student: LlamaForCausalLM, split: str, seed: int, gusts: float) -> dict[str, float]:
    """What a student can do in the gusts of its cell, on `TEST_ROWS` fresh paths.

    Returns:
        kl: of the reliable rule to the student, on text that it samples [nats a token]. The others on text that it writes greedily,
        of its own moves, gusts not counted: exact (rows without a wrong one), before_slip (positions before the first, a share),
        steers (right ones where it is more than `FAR` places off the path).
    """
    prompts = paths(TEST_ROWS, row_seed(split, seed))
    seeds = [row_seed(split, seed, row) for row in range(TEST_ROWS)]
    sampled, greedy = (write(OnPolicy(), student, student, prompts, seeds, gusts, t).completion_ids for t in (1.0, 0.0))
    kl = forward_kl(sharp(right_places(prompts, sampled)).log(), scores(student, prompts, sampled))
    own = scores(student, prompts, greedy).argmax(-1)
    is_right = own == right_places(prompts, greedy)
    far = off_the_path(prompts, greedy) > FAR
    return {
        "kl": float(kl.mean()),
        "exact": float(is_right.all(-1).float().mean()),
        "before_slip": float(is_right.long().cumprod(-1).float().mean()),
        "steers": float(is_right[far].float().mean()),
    }
