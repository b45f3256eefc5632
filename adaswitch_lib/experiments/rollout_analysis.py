"""What a student writes, and what is written for it, while it learns: divergences, mistakes, and what the rule would catch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adaswitch_lib.data import RowCollator, encode_rows
from adaswitch_lib.experiments.tasks.task import Task
from adaswitch_lib.generation import Policy, generate
from adaswitch_lib.losses import completion_logits, distillation_loss
from adaswitch_lib.models import eos_token_ids, num_token_ids
from adaswitch_lib.policies import OnPolicy
from adaswitch_lib.rollout import Rollout
from adaswitch_lib.switching import SwitchRule, first_switch
from adaswitch_lib.trainer import rows_at_once


@torch.no_grad()
def look_at_texts(
    policy: Policy | None,
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    rows: Dataset,
    rule: SwitchRule,
    temperature: float = 1.0,
) -> tuple[dict[str, float], Rollout]:
    """What `policy` writes for these rows (None: the data), and what the student writes alone.

    Args:
        rule: what is asked where it would have switched in the student's own text.
        temperature: of sampling.

    Returns:
        The measurements, and the rollout of `policy`, or the student's own where the data are learned from:
        `written_<metric>`: the task's score of the text that is learned from.
        `kl_own`, `kl_data`: mean KL(teacher ‖ student) on the student's own text and on the data, nats a token; their
        difference is what the student has not seen in training, exposure bias.
        Where the task knows mistakes, and `rule` is not meant for another divergence, also what `caught` gives.
    """
    vocab_size = num_token_ids(tokenizer)
    data = RowCollator(tokenizer.pad_token_id, vocab_size)(list(encode_rows(rows, tokenizer))).to(student.device)
    settings = {
        "max_new_tokens": task.max_new_tokens,
        "row_seeds": range(len(rows)),
        "temperature": temperature,
        "eos_token_id": eos_token_ids(tokenizer, teacher, student),
        "pad_token_id": tokenizer.pad_token_id,
        "vocab_size": vocab_size,
    }
    own = generate(OnPolicy(), teacher, student, data.prompt_ids, data.prompt_mask, **settings)
    written = data if policy is None else own
    if policy not in (None, OnPolicy()):
        written = generate(policy, teacher, student, data.prompt_ids, data.prompt_mask, **settings)
    training = student.training
    student.eval()
    on_data = sum(_divergence_sum(teacher, student, part) for part in data.by_length(rows_at_once(student)))
    student.train(training)
    found = {
        f"written_{task.metric}": task.scores(decoded(written, tokenizer), rows)[task.metric].mean(),
        "kl_own": float(own.divergence[own.completion_mask.bool()].mean()),
        "kl_data": float(on_data / data.completion_mask.sum()),
    }
    same_divergence = not hasattr(policy, "rule") or policy.divergence == OnPolicy.divergence
    if task.first_mistake and same_divergence:
        switch = first_switch(own.divergence, own.completion_mask, rule)
        mistake = first_mistakes(task.first_mistake, decoded(own, tokenizer), rows)
        found |= caught(switch, mistake.to(switch.device))
    return found, own if policy is None else written


def _divergence_sum(teacher: PreTrainedModel, student: PreTrainedModel, rows: Rollout) -> Tensor:
    """Σ KL(teacher ‖ student) over the real tokens of the completions, nats."""
    logits = completion_logits(teacher, rows), completion_logits(student, rows)
    return distillation_loss(*logits, rows.completion_mask, num_tokens=1)


def first_mistakes(find: Callable[[str, Mapping], int | None], texts: list[str], rows: Dataset) -> Tensor:
    """The token at which each text goes wrong, shape [batch] long; -1: nowhere."""
    return torch.tensor([-1 if (at := find(text, row)) is None else at for text, row in zip(texts, rows, strict=True)])


def caught(switch: Tensor, mistake: Tensor) -> dict[str, float]:
    """Switches against mistakes, both as positions, -1 for none.

    Returns:
        `mistaken`: share of rows with a mistake.
        `caught`: of these, the share in which the teacher takes over before the mistake or at it (recall).
        `switch_before`, `switch_at`, `switch_after`: of the rows that switch, the shares in which the text was still
        right, in which the switch is at the first wrong token, and in which it was wrong already. NaN where no row is counted.
    """
    switched, wrong = switch >= 0, mistake >= 0
    at = switched & wrong & (switch == mistake)
    after = switched & wrong & (switch > mistake)
    before = switched & ~at & ~after

    def share(of: Tensor, among: Tensor) -> float:
        return float(of.sum() / among.sum())

    return {
        "mistaken": float(wrong.float().mean()),
        "caught": share(switched & wrong & ~after, wrong),
        "switch_before": share(before, switched),
        "switch_at": share(at, switched),
        "switch_after": share(after, switched),
    }


def by_chance(switch: Tensor, mistake: Tensor, length: Tensor) -> dict[str, float]:
    """`caught` by permuted switch positions: the mean over all ways to pass them round from row to row.

    Args:
        switch, mistake: positions, -1 for none.
        length: tokens of each row; a switch that falls behind them is none.
    """
    permuted = [switch.roll(places) for places in range(1, len(switch))]
    return pd.DataFrame([caught(torch.where(other < length, other, -1), mistake) for other in permuted]).mean().to_dict()


def against_chance(traces: pd.DataFrame, task: Task, rows: Dataset, rule: SwitchRule) -> pd.DataFrame:
    """What a rule would catch in the students' own texts that were kept, and what its positions catch in other rows.

    Args:
        traces: of students that wrote alone, tokens of one word: run, step, example, pos, token, divergence.
        rows: the rows that the examples number.

    Returns:
        One line a run and step, a column for each share of `caught` and, with `permuted_` before it, of `by_chance`; and how many
        rows switch (`switching`) and have a mistake (`wrong`).
    """
    lines = []
    for (run, step), some in traces.groupby(["run", "step"]):
        divergence = some.pivot(index="example", columns="pos", values="divergence")
        mask = torch.tensor(divergence.notna().to_numpy())
        switch = first_switch(torch.tensor(divergence.fillna(0.0).to_numpy()), mask, rule)
        texts = some[some.token != "<eos>"].groupby("example").token.agg(" ".join).reindex(divergence.index, fill_value="")
        mistake = first_mistakes(task.first_mistake, list(texts), rows.select(divergence.index))
        chance = {f"permuted_{name}": share for name, share in by_chance(switch, mistake, mask.sum(-1)).items()}
        counts = {"switching": int((switch >= 0).sum()), "wrong": int((mistake >= 0).sum())}
        lines.append({"run": run, "step": step} | counts | caught(switch, mistake) | chance)
    return pd.DataFrame(lines)


def trace(rollout: Rollout, tokenizer: PreTrainedTokenizerBase, step: int, rows: int) -> pd.DataFrame:
    """The per-token table of the first rows, with their step and switch index; four digits behind the point, since it is kept."""
    frame = rollout.rows(range(rows)).to_frame(tokenizer).assign(step=step).round({"divergence": 4, "threshold": 4})
    frame["switch_index"] = rollout.switch_index.cpu().numpy()[frame.example]
    return frame


def decoded(rollout: Rollout, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The completions as texts, without special tokens."""
    completions = zip(rollout.completion_ids, rollout.completion_mask.bool(), strict=True)
    return [tokenizer.decode(tokens[real], skip_special_tokens=True) for tokens, real in completions]
