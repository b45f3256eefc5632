"""Teachers of the lane: networks that learned the advice rule from texts, and so are as good as texts can make them."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from adaswitch_lib.divergence import forward_kl
from adaswitch_lib.experiments.lane.models import new_model, scores, text_loss, train
from adaswitch_lib.experiments.lane.world import LENGTH, MEMORY, PLACES, advice, on_the_path, paths, right_places, slips, towards
from adaswitch_lib.trainer import row_seed

NOISE = (0.02, 0.05, 0.15, 0.4)
"""Noise of the writers' texts, a quarter of the rows each."""

STEPS, ROWS, SEED = 1200, 64, 7


def rattled_texts(prompts: Tensor, gamma: float, seed: int) -> tuple[Tensor, Tensor]:
    """What writers put down who follow the advice rule while their pen is rattled, and what they meant; both [row T].

    At each step the intention is drawn from the advice on the text so far. The text gets it or, with the row's share of
    noise, a random place.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(len(prompts))
    noise = torch.tensor(NOISE)[rows % len(NOISE)]
    place, target = prompts[:, LENGTH], on_the_path(prompts)
    wrong = torch.zeros(len(prompts), MEMORY + LENGTH, dtype=torch.long)
    text, meant = torch.empty_like(target), torch.empty_like(target)
    for t in range(LENGTH):
        right = towards(place, target[:, t])
        told = advice(right, wrong[:, t : t + MEMORY].sum(-1), gamma)[:, :PLACES]
        meant[:, t] = torch.multinomial(told, 1, generator=generator)[:, 0]
        rattled = torch.rand(len(prompts), generator=generator) < noise
        place = torch.where(rattled, torch.randint(PLACES, rattled.shape, generator=generator), meant[:, t])
        text[:, t] = place
        wrong[:, MEMORY + t] = place != right
    return text, meant


def train_teacher(gamma: float) -> LlamaForCausalLM:
    """Two layers that learn the writers' intentions from their rattled texts."""
    prompts = paths(STEPS * ROWS, row_seed(SEED, int(1000 * gamma), 0))
    text, meant = rattled_texts(prompts, gamma, row_seed(SEED, int(1000 * gamma), 1))
    model = new_model(2, SEED)

    def loss(step: int) -> Tensor:
        rows = slice(step * ROWS, (step + 1) * ROWS)
        return text_loss(model, prompts[rows], text[rows], meant[rows])

    return train(model, STEPS, loss, rate=3e-3, warmup=50, last=0.02)


@torch.no_grad()
def check(model: LlamaForCausalLM, gamma: float, rows: int = 1024) -> pd.DataFrame:
    """What a teacher knows after k slips, on fresh texts of the writers that it learned from.

    Columns gamma, slips, tokens, rule and network (mean mass on the right place), kl (of the rule to the network, nats).
    """
    prompts = paths(rows, row_seed(SEED, int(1000 * gamma), 2))
    text, _ = rattled_texts(prompts, gamma, row_seed(SEED, int(1000 * gamma), 3))
    right, k = right_places(prompts, text), slips(prompts, text)
    rule, logits = advice(right, k, gamma), scores(model, prompts, text)

    def of_right(p: Tensor) -> Tensor:
        return p.gather(-1, right[..., None])[..., 0].flatten()

    found = {
        "slips": k.flatten(),
        "rule": of_right(rule),
        "network": of_right(logits.softmax(-1)),
        "kl": forward_kl(rule.log(), logits).flatten(),
    }
    by_slips = pd.DataFrame({name: value.numpy() for name, value in found.items()}).groupby("slips")
    return by_slips.mean().assign(tokens=by_slips.size(), gamma=gamma).reset_index()
