"""What must be true on any device: texts do not depend on batch, block or buffers, numbers equal those of one plain pass."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from gpu_parts import Numbers, Parts, Sizes

from adaswitch_lib import (
    AdaSwitch,
    OffPolicy,
    OnPolicy,
    Pair,
    PerTokenSwitch,
    Policy,
    Rollout,
    SpeculativeKD,
    SwitchRule,
    completion_logits,
    distillation_loss,
    forward_kl,
    generate,
    load_pair,
    static_decoding,
)

POLICIES = {
    "adaswitch": AdaSwitch(SwitchRule(multiplier=1.3, window=4, min_history=2)),
    "skd": SpeculativeKD(top_k=8),
    "onpolicy": OnPolicy(),
    "offpolicy": OffPolicy(),
    "switch": PerTokenSwitch(0.4, 0.02),
}


def right(sizes: Sizes) -> Parts:
    for dtype in ("float32", "bfloat16"):
        for name in list(POLICIES)[: 2 if sizes.small else None]:
            yield f"{dtype}, rows, {name}", lambda dtype=dtype, name=name: same_rows(POLICIES[name], dtype, sizes)
        yield f"{dtype}, greedy", lambda dtype=dtype: greedy(dtype, sizes)
        yield f"{dtype}, loss", lambda dtype=dtype: loss(dtype, sizes)


def write(policy: Policy, pair: Pair, rows: slice = slice(None), static: bool = False, **changes) -> Rollout:
    few = changes.pop("few", False)
    ids = torch.randint(4, 20, (4 if few else 32, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    for row in range(len(ids)):
        mask[row, : row % 4] = 0
    seeds = range(len(ids))[rows]
    ids, mask = (tensor[rows].to(pair.teacher.device) for tensor in (ids * mask, mask))
    settings = dict(max_new_tokens=12 if few else 24, row_seeds=seeds, eos_token_id=pair.tokenizer.eos_token_id, pad_token_id=0)
    with static_decoding() if static else nullcontext():
        if static:  # once to capture, once to replay what was captured
            generate(policy, pair.teacher, pair.student, ids, mask, **settings | changes)
        return generate(policy, pair.teacher, pair.student, ids, mask, **settings | changes)


def tiny(dtype: str, sizes: Sizes) -> Pair:
    pair = load_pair("tiny", dtype=getattr(torch, dtype))
    return pair._replace(teacher=pair.teacher.to(sizes.device), student=pair.student.to(sizes.device))


def same_rows(policy: Policy, dtype: str, sizes: Sizes) -> Numbers:
    """Shares of rows with the same text however they are written, and how far recorded divergences are off one parallel pass."""
    pair, few = tiny(dtype, sizes), sizes.small
    batch = write(policy, pair, few=few)
    texts = _texts(batch)
    alone = [_texts(write(policy, pair, slice(row, row + 1), few=few))[0] for row in range(2 if few else 8)]
    with torch.no_grad():
        plain = forward_kl(completion_logits(pair.teacher, batch), completion_logits(pair.student, batch))
    real = batch.completion_mask.bool() & ~batch.divergence.isnan()
    off = torch.zeros(1) if policy.divergence != "forward_kl" else (batch.divergence - plain)[real].abs()
    return {
        "alone": _share(alone, texts[: len(alone)]),
        "token by token": _share(_texts(write(policy, pair, few=few, block_size=1)), texts),
        "static": _share(_texts(write(policy, pair, few=few, static=True)), texts),
        "divergence off by": float(off.max()),
    }


def greedy(dtype: str, sizes: Sizes) -> Numbers:
    """Share of a student's greedy tokens that one plain pass over the text finds likeliest, too."""
    pair = tiny(dtype, sizes)
    batch = write(OnPolicy(), pair, few=sizes.small, temperature=0)
    with torch.no_grad():
        likeliest = completion_logits(pair.student, batch).argmax(-1)
    same = (likeliest == batch.completion_ids)[batch.completion_mask.bool()]
    return {"tokens": float(same.float().mean())}


def loss(dtype: str, sizes: Sizes) -> Numbers:
    """How far loss and gradient are off those in float64, from the same logits."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, 16, 512) if sizes.small else (4, 64, 32_000)
    teacher, student = (3 * torch.randn(*shape, generator=generator).to(getattr(torch, dtype)) for _ in range(2))
    mask = torch.ones(shape[:2])
    results = []
    for device, kind in ((sizes.device, student.dtype), ("cpu", torch.float64)):
        t, s = teacher.to(device, kind), student.detach().to(device, kind).requires_grad_(True)
        log_p, log_q = t.log_softmax(-1), s.log_softmax(-1)
        exact = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
        value = exact if kind is torch.float64 else distillation_loss(t, s, mask.to(device))
        value.backward()
        results.append((value.detach().cpu().double(), s.grad.cpu().double()))
    (value, gradient), (exact, exact_gradient) = results
    return {
        "loss off by": float((value - exact).abs() / exact),
        "gradient off by": float((gradient - exact_gradient).norm() / exact_gradient.norm()),
    }


def _texts(rollout: Rollout) -> list[list[int]]:
    rows = zip(rollout.completion_ids.tolist(), rollout.completion_mask.sum(-1).tolist(), strict=True)
    return [ids[:length] for ids, length in rows]


def _share(some: list, others: list) -> float:
    return sum(a == b for a, b in zip(some, others, strict=True)) / len(others)
