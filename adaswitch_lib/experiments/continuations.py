"""How good a teacher's advice is: what it makes of texts that the data, the student or itself began, by their length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel

from adaswitch_lib.data import RowCollator, encode_rows
from adaswitch_lib.experiments.config import RunConfig
from adaswitch_lib.experiments.lane import world
from adaswitch_lib.experiments.lane.grid import CHART, TUNING_SEED, Cell
from adaswitch_lib.experiments.lane.runs import load_teacher
from adaswitch_lib.experiments.lane.students import initial_student, write
from adaswitch_lib.experiments.logs import logger
from adaswitch_lib.experiments.paths import results_dir
from adaswitch_lib.experiments.preparation import prepare
from adaswitch_lib.experiments.rollout_analysis import decoded
from adaswitch_lib.experiments.table_files import write_table
from adaswitch_lib.generation import generate
from adaswitch_lib.models import eos_token_ids, num_token_ids
from adaswitch_lib.policies import OffPolicy, OnPolicy
from adaswitch_lib.rollout import Rollout
from adaswitch_lib.trainer import row_seed

ROWS = 32
CUTS = (4, 8, 16, 24)
"""After how many tokens the teacher goes on; of the lane's 24 after the first three."""

AT_ONCE = 16
"""Rows whose logits are kept at the same time."""


def write_continuations(config: RunConfig) -> None:
    """Measure the advice of this pair on validation rows, and that of every γ of the lane's chart, into results/lane."""
    start = config.initial_student
    in_float32 = replace(start, size=replace(start.size, bf16=False))  # few CPUs have units for bfloat16
    parts = [of_pair(replace(config, initial_student=in_float32))]
    for cell in CHART:
        parts.append(of_lane(cell, results_dir("lane")))
        logger.info("continuations at γ = %g: done", cell.gamma)
    write_table(pd.concat(parts, ignore_index=True), results_dir("lane") / "continuations.parquet", preset=config.preset)


def of_pair(config: RunConfig) -> pd.DataFrame:
    """The advice of a run's teacher on the texts of its initial student, sampled as in training.

    Returns:
        A line a text and cut: world (the task), begun_by (data, student or teacher), tokens (before the cut), example, entropy (of
        the teacher's next-token distribution there, nats), score (of what the teacher adds, sampled, by itself; the task's metric).
    """
    prepared = prepare(config)
    teacher, student, tokenizer = prepared.pair
    task, rows = prepared.task, prepared.task.load("validation", ROWS, 0)
    encoded = encode_rows(rows, tokenizer)
    collate = RowCollator(tokenizer.pad_token_id)
    settings = {
        "eos_token_id": eos_token_ids(tokenizer, teacher, student),
        "pad_token_id": tokenizer.pad_token_id,
        "vocab_size": num_token_ids(tokenizer),
    }

    def written_by(policy: OnPolicy | OffPolicy) -> list[list[int]]:
        asked = collate(list(encoded)).to(teacher.device)
        seeds = [row_seed("continuations", row) for row in range(len(rows))]
        rollout = generate(
            policy,
            teacher,
            student,
            asked.prompt_ids,
            asked.prompt_mask,
            max_new_tokens=task.max_new_tokens,
            row_seeds=seeds,
            record_divergence=False,
            **settings,
        )
        return [text[real].tolist() for text, real in zip(rollout.completion_ids, rollout.completion_mask.bool(), strict=True)]

    texts = {"data": encoded["completion_ids"], "student": written_by(OnPolicy()), "teacher": written_by(OffPolicy())}
    lines = []
    for begun_by, begun in texts.items():
        for cut in CUTS:
            long = [row for row, text in enumerate(begun) if len(text) > cut]
            for some in (long[i : i + AT_ONCE] for i in range(0, len(long), AT_ONCE)):
                prompts = [{"prompt_ids": [*encoded[row]["prompt_ids"], *begun[row][:cut]], "completion_ids": []} for row in some]
                asked = collate(prompts).to(teacher.device)
                left, seeds = task.max_new_tokens - cut, [row_seed("going on", row) for row in some]
                ended = _go_on(teacher, asked.prompt_ids, asked.prompt_mask, left, seeds, settings)
                scores = task.scores(decoded(ended, tokenizer), rows.select(some))[task.metric]
                lines.append(_lines(task.name, begun_by, cut, some, ended, scores))
            logger.info("continuations of %s after %d tokens by the %s: done", task.name, cut, begun_by)
    return pd.concat(lines)


def of_lane(cell: Cell, results: Path) -> pd.DataFrame:
    """The same of the lane's teacher of a γ on the texts of an initial student in gusts; the score is the share of right tokens in
    what the teacher adds."""
    teacher, student = load_teacher(cell.gamma, results), initial_student(TUNING_SEED, cell.sft_steps)
    prompts = world.paths(ROWS, row_seed("continuations"))
    seeds = [row_seed("continuations", row) for row in range(ROWS)]

    def written_by(policy: OnPolicy | OffPolicy) -> Tensor:
        return write(policy, teacher, student, prompts, seeds, cell.gusts).completion_ids

    texts = {"data": world.on_the_path(prompts), "student": written_by(OnPolicy()), "teacher": written_by(OffPolicy())}
    settings = {"eos_token_id": world.END, "pad_token_id": world.END, "vocab_size": world.VOCAB}
    lines = []
    for begun_by, begun in texts.items():
        for cut in (cut for cut in CUTS if cut < world.LENGTH):
            asked = torch.cat([prompts, begun[:, :cut]], dim=1)
            left, again = world.LENGTH - cut, [row_seed("going on", row) for row in range(ROWS)]
            ended = _go_on(teacher, asked, torch.ones_like(asked), left, again, settings)
            whole = torch.cat([begun[:, :cut], ended.completion_ids], dim=1)
            is_right = (whole == world.right_places(prompts, whole))[:, cut:]
            lines.append(_lines(f"lane {cell.gamma:g}", begun_by, cut, range(ROWS), ended, is_right.float().mean(-1).numpy()))
    return pd.concat(lines)


def _go_on(teacher: PreTrainedModel, ids: Tensor, mask: Tensor, tokens: int, seeds: Sequence[int], settings: dict) -> Rollout:
    return generate(
        OffPolicy(),
        teacher,
        teacher,
        ids,
        mask,
        max_new_tokens=tokens,
        row_seeds=seeds,
        record_divergence=False,
        keep_teacher_logits=True,
        **settings,
    )


def _lines(world_: str, begun_by: str, cut: int, examples: Sequence[int], ended: Rollout, scores) -> pd.DataFrame:
    first = ended.teacher_logits[:, 0, : ended.vocab_size].float()
    entropy = torch.distributions.Categorical(logits=first).entropy().cpu().numpy()
    said = {"world": world_, "begun_by": begun_by, "tokens": cut}
    return pd.DataFrame(said | {"example": list(examples), "entropy": entropy, "score": list(scores)})
