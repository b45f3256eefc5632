"""What several tests need."""

import torch

from adaswitch_lib import completion_logits, generate


def write(policy, pair, prompts, **changes):
    ids, mask = prompts
    settings = dict(
        max_new_tokens=24,
        row_seeds=range(len(ids)),
        eos_token_id=pair.tokenizer.eos_token_id,
        pad_token_id=pair.tokenizer.pad_token_id,
    )
    return generate(policy, pair.teacher, pair.student, ids, mask, **(settings | changes))


def same_text(a, b):
    return all(
        torch.equal(getattr(a, name), getattr(b, name)) for name in ("completion_ids", "completion_mask", "source", "switch_index")
    )


def row(rollout, i):
    """Ids, sources and switch of one row, without padding."""
    n = int(rollout.completion_mask[i].sum())
    return rollout.completion_ids[i, :n].tolist(), rollout.source[i, :n].tolist(), int(rollout.switch_index[i])


@torch.no_grad()
def parallel_logits(pair, rollout):
    return completion_logits(pair.teacher, rollout), completion_logits(pair.student, rollout)
