"""AdaSwitch as one writes it first, which ours is held against."""

from __future__ import annotations

import torch
from transformers import DynamicCache

from adaswitch_lib import forward_kl
from adaswitch_lib.generation.decoder import cache_argument


@torch.no_grad()
def naive_adaswitch(teacher, student, prompt_ids, prompt_mask, *, max_new_tokens, rule, eos_token_id, seed=0):
    """Both models on every row at every step, caches from the library: what one writes first."""
    generator = torch.Generator(prompt_ids.device).manual_seed(seed)
    caches, mask, ids = (DynamicCache(), DynamicCache()), prompt_mask, prompt_ids
    batch = len(prompt_ids)
    guided = torch.zeros(batch, dtype=torch.bool, device=ids.device)
    ended = torch.zeros_like(guided)
    divergences, tokens = [], []
    for i in range(max_new_tokens):
        t, s = (
            model(input_ids=ids, attention_mask=mask, logits_to_keep=1, **{cache_argument(model): cache}).logits[:, -1]
            for model, cache in zip((teacher, student), caches, strict=True)
        )
        d = forward_kl(t, s)
        if i >= rule.min_history:
            mean = torch.stack(divergences[-rule.window :]).mean(0)
            guided |= d > (rule.multiplier * mean).clamp(min=rule.floor)
        divergences.append(d)
        token = torch.multinomial(torch.where(guided[:, None], t, s).softmax(-1), 1, generator=generator)
        tokens.append(token)
        ended |= token[:, 0] == eos_token_id
        if ended.all():
            break
        ids, mask = token, torch.cat([mask, mask.new_ones(batch, 1)], dim=1)
    return torch.cat(tokens, dim=1)
