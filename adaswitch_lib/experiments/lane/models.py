"""The networks of the lane, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, get_cosine_with_min_lr_schedule_with_warmup

from adaswitch_lib.experiments.lane.world import END, VOCAB
from adaswitch_lib.losses import completion_logits, nll_loss
from adaswitch_lib.rollout import Rollout


def new_model(layers: int, seed: int) -> LlamaForCausalLM:
    """A Llama of width 64 with random weights. The global random state is not touched."""
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=128,
        eos_token_id=END,
        pad_token_id=END,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def train(
    model: LlamaForCausalLM, steps: int, loss: Callable[[int], Tensor], *, rate: float, warmup: int, last: float
) -> LlamaForCausalLM:
    """AdamW on what `loss(step)` gives, with a rate that warms up and falls by a cosine to a share `last` of its peak."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = get_cosine_with_min_lr_schedule_with_warmup(optimizer, warmup, steps, min_lr_rate=last)
    model.train()
    for step in range(steps):
        optimizer.zero_grad()
        loss(step).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def text_loss(model: LlamaForCausalLM, prompts: Tensor, text: Tensor, labels: Tensor) -> Tensor:
    """−log p(label) a token, each label at its place in a text that may say something else. All shapes [row pos]."""
    return nll_loss(scores(model, prompts, text), labels, torch.ones_like(labels))


def scores(model: LlamaForCausalLM, prompts: Tensor, text: Tensor) -> Tensor:
    """Logits at every token of given texts, shape [row pos VOCAB]."""
    given = Rollout.from_data(prompts, torch.ones_like(prompts), text, torch.ones_like(text), VOCAB)
    return completion_logits(model, given)
