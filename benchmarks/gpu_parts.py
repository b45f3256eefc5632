"""What `gpu.py` measures: stages of named parts, each a call that returns numbers. Those of most worth come first.

Random weights never agree, and their divergence hardly jumps. So the positions of switches and of rejections are given; the
rule and the ranks are computed as always, and what they say is put aside.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
import transformers
from naive import naive_adaswitch
from random_pairs import PAIRS, random_pair
from torch import Tensor

from adaswitch_lib import (
    METHODS,
    AdaSwitch,
    OffPolicy,
    OnPolicy,
    Pair,
    Policy,
    RolloutConfig,
    RolloutTrainer,
    Source,
    SpeculativeKD,
    SwitchRule,
    generate,
    static_decoding,
)
from adaswitch_lib.generation.session import Block, Session

Numbers = dict[str, float]
Parts = Iterator[tuple[str, Callable[[], Numbers]]]
MODES = {"static": static_decoding, "growing": nullcontext}
"""Buffers of keys and values: static ones with captured graphs, or those that grow, which are the default."""

SWITCHES = (0.25, 1.0, 0.05, 0.5)
"""After which share of the tokens the teacher takes over; 1: never."""

REJECTED = (0.3, 0.1, 0.5)
"""Shares of the student's tokens that SKD has the teacher write."""


@dataclass(frozen=True)
class Sizes:
    """Rows, tokens of a prompt, new tokens, and how measuring is done; `small`: a dry run on a CPU."""

    small: bool = False
    batch: int = 32
    prompt: int = 256
    tokens: int = 256
    repeats: int = 3
    seconds: float = 8.0  # after which nothing is repeated
    most: int | None = None  # of several settings of a policy

    @property
    def device(self) -> str:
        return "cpu" if self.small else "cuda"


DRY = Sizes(small=True, batch=4, prompt=8, tokens=8, repeats=1, most=1)


@dataclass(frozen=True)
class SwitchAt(AdaSwitch):
    """AdaSwitch, at the cost of its rule, but with the switch after a given share of the tokens."""

    share: float = 0.5

    def _judge(self, session: Session, block: Block) -> Tensor:
        super()._judge(session, block)
        return block.positions == int(self.share * session.request.max_new_tokens)


@dataclass(frozen=True)
class RejectAtRate(SpeculativeKD):
    """Speculative KD, at the cost of its ranks, but with a given share of the student's tokens rejected."""

    rate: float = 0.3

    def _judge(self, session: Session, block: Block) -> Tensor:
        super()._judge(session, block)
        return session.uniforms[block.rows[:, None], block.positions, Source.TEACHER] < self.rate


def policies(sizes: Sizes) -> dict[str, Policy]:
    switching = {f"adaswitch, {share:.0%}": SwitchAt(share=share) for share in SWITCHES[: sizes.most]}
    rejecting = {f"skd, {rate:.0%}": RejectAtRate(rate=rate) for rate in REJECTED[: sizes.most]}
    return switching | {"onpolicy": OnPolicy()} | rejecting | {"offpolicy": OffPolicy()}


def measured(call: Callable[[], object], sizes: Sizes) -> Numbers:
    """Median seconds of a call that has been made once before, and the peak of allocated memory."""
    call()
    if not sizes.small:
        torch.cuda.reset_peak_memory_stats()
    seconds: list[float] = []
    while len(seconds) < sizes.repeats and sum(seconds) < sizes.seconds:
        start = now(sizes)
        call()
        seconds.append(now(sizes) - start)
    return summary(seconds, sizes)


def summary(seconds: Sequence[float], sizes: Sizes) -> Numbers:
    peak = {} if sizes.small else {"peak_gb": torch.cuda.max_memory_allocated() / 1e9}
    return {"seconds": statistics.median(seconds), "least": min(seconds), "most": max(seconds), "repeats": len(seconds)} | peak


def now(sizes: Sizes) -> float:
    if not sizes.small:
        torch.cuda.synchronize()
    return time.perf_counter()


def prompts(pair: Pair, sizes: Sizes) -> tuple[Tensor, Tensor]:
    ids = torch.randint(3, len(pair.tokenizer), (sizes.batch, sizes.prompt), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[: sizes.batch // 2, : sizes.prompt // 4] = 0  # half of the rows have padding
    return ids.to(sizes.device), mask.to(sizes.device)


def write(policy: Policy, pair: Pair, sizes: Sizes, **changes):
    """As a trainer asks for it."""
    ids, mask = prompts(pair, sizes)
    settings = dict(max_new_tokens=sizes.tokens, row_seeds=range(len(ids)), eos_token_id=1, pad_token_id=0, record_divergence=False)
    return generate(policy, pair.teacher, pair.student, ids, mask, **settings | changes)


def rollout(policy: Policy, mode: str, pair: Pair, sizes: Sizes) -> Numbers:
    with MODES[mode]():
        return measured(lambda: write(policy, pair, sizes), sizes)


def by_transformers(share: float, pair: Pair, sizes: Sizes) -> Numbers:
    """The same tokens by `transformers.generate`: the student's, and from there the teacher's."""
    own = int(share * sizes.tokens)

    def call() -> None:
        ids, mask = prompts(pair, sizes)
        for model, tokens in ((pair.student, own), (pair.teacher, sizes.tokens - own)):
            if tokens:
                settings = dict(max_new_tokens=tokens, do_sample=True, top_k=0, top_p=1.0, temperature=1.0)
                ids = model.generate(ids, attention_mask=mask, pad_token_id=0, eos_token_id=1, **settings)
                mask = torch.nn.functional.pad(mask, (0, ids.shape[1] - mask.shape[1]), value=1)

    return measured(call, sizes)


def by_naive_loop(pair: Pair, sizes: Sizes) -> Numbers:
    ids, mask = prompts(pair, sizes)
    settings = dict(max_new_tokens=sizes.tokens, rule=SwitchRule(), eos_token_id=1)
    return measured(lambda: naive_adaswitch(pair.teacher, pair.student, ids, mask, **settings), sizes)


class StepEnds(transformers.TrainerCallback):
    def __init__(self, sizes: Sizes):
        self.sizes, self.ends = sizes, []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.ends.append(now(self.sizes))
        if len(self.ends) == 1 and not self.sizes.small:
            torch.cuda.reset_peak_memory_stats()
        control.should_training_stop |= len(self.ends) > 1 and self.ends[-1] - self.ends[0] > self.sizes.seconds


def step(name: str, policy: Policy | None, mode: str, pair: Pair, sizes: Sizes) -> Numbers:
    """A training step behind the first: rollout, loss, gradient, AdamW; weights stay in the models' type. So small a rate that
    texts stay what they are."""
    ids = torch.randint(3, len(pair.tokenizer), (4 * sizes.batch, sizes.prompt + sizes.tokens)).tolist()
    rows = [{"prompt_ids": row[: sizes.prompt], "completion_ids": row[sizes.prompt :]} for row in ids]
    method = METHODS[name] if policy is None else replace(METHODS[name], writer=policy)
    ends = StepEnds(sizes)
    with tempfile.TemporaryDirectory() as folder, MODES[mode]():
        args = RolloutConfig(
            folder,
            max_steps=sizes.repeats + 1,
            per_device_train_batch_size=sizes.batch // 2,
            gradient_accumulation_steps=2,
            max_new_tokens=sizes.tokens,
            learning_rate=1e-6,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=10**6,
            use_cpu=sizes.small,
        )
        trainer = RolloutTrainer(pair.student, pair.teacher, method, args, rows, pair.tokenizer, callbacks=[ends])
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    pair.student.zero_grad(set_to_none=True)
    return summary([b - a for a, b in zip(ends.ends, ends.ends[1:], strict=False)], sizes)


def trl_step(pair: Pair, sizes: Sizes) -> Numbers:
    """The same step on-policy by TRL's trainer."""
    from trl_step import step_seconds

    more = dict(prompt=sizes.prompt, use_cpu=sizes.small)
    if not sizes.small:
        torch.cuda.reset_peak_memory_stats()
    seconds = step_seconds("TRL", pair, sizes.batch, sizes.tokens, sizes.repeats, **more)
    return summary(seconds, sizes)


def shapes(sizes: Sizes) -> Parts:
    """The paper's pairs: rollouts from static buffers, by transformers, and training steps."""
    for name in PAIRS:
        pair = _Lazy(name, sizes)
        written = policies(sizes)
        for what, policy in written.items():
            yield f"{name} | rollout | {what} | static", partial(_with, rollout, policy, "static", pair, sizes)
        for share in SWITCHES[: sizes.most]:
            yield f"{name} | rollout | adaswitch, {share:.0%} | transformers", partial(_with, by_transformers, share, pair, sizes)
        yield f"{name} | step | kd | static", partial(_with, step, "kd", None, "static", pair, sizes)
        for what in dict.fromkeys(("onpolicy", "adaswitch, 25%", "skd, 30%", *written)):
            if what != "offpolicy":
                method = what.split(",")[0]
                yield f"{name} | step | {what} | static", partial(_with, step, method, written[what], "static", pair, sizes)
        pair.forget()


def others(sizes: Sizes) -> Parts:
    """The same pairs by what static buffers are held against: buffers that grow, the naive loop, TRL."""
    for name in PAIRS:
        pair = _Lazy(name, sizes)
        written = policies(sizes)
        yield f"{name} | rollout | adaswitch, 25% | naive loop", partial(_with, by_naive_loop, pair, sizes)
        for what in ("adaswitch, 25%", "onpolicy", "skd, 30%", "offpolicy"):
            yield f"{name} | rollout | {what} | growing", partial(_with, rollout, written[what], "growing", pair, sizes)
        for what in ("adaswitch, 25%", "onpolicy", "skd, 30%"):
            method = what.split(",")[0]
            yield f"{name} | step | {what} | growing", partial(_with, step, method, written[what], "growing", pair, sizes)
        if importlib.util.find_spec("trl") and importlib.util.find_spec("datasets"):
            yield f"{name} | step | onpolicy | TRL", partial(_with, trl_step, pair, sizes)
        pair.forget()


def growth(sizes: Sizes) -> Parts:
    """AdaSwitch with the switch at 25 %: seconds against length, batch and vocabulary, one at a time."""
    first, policy = next(iter(PAIRS)), SwitchAt(share=0.25)
    pair = _Lazy(first, sizes)
    for axis, values in {"tokens": (0.25, 0.5, 1, 2), "batch": (0.25, 0.5, 1, 2)}.items():
        for value in (int(factor * getattr(sizes, axis)) for factor in values):
            changed = replace(sizes, **{axis: value})
            yield f"{first} | {axis} | {value} | static", partial(_with, rollout, policy, "static", pair, changed)
    pair.forget()
    for vocabulary in (64, 256) if sizes.small else (8_192, 32_768, 151_936):
        pair = _Lazy(first, sizes, vocabulary)
        yield f"{first} | vocabulary | {vocabulary} | static", partial(_with, rollout, policy, "static", pair, sizes)
        pair.forget()


class _Lazy:
    """A pair that is made when it is first needed, and given up when it is no longer."""

    def __init__(self, name: str, sizes: Sizes, vocabulary: int | None = None):
        self.make = partial(random_pair, name, vocabulary, sizes.small, sizes.device)
        self.pair: Pair | None = None

    def __call__(self) -> Pair:
        self.pair = self.pair or self.make()
        return self.pair

    def forget(self) -> None:
        self.pair = None


def _with(measure: Callable[..., Numbers], *arguments) -> Numbers:
    """The pair made, the measure called."""
    return measure(*(each() if isinstance(each, _Lazy) else each for each in arguments))
