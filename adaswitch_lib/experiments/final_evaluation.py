"""The third room of a run: what the student can do on test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adaswitch_lib.experiments.config import RunConfig
from adaswitch_lib.experiments.evaluation import evaluate
from adaswitch_lib.experiments.logs import logger
from adaswitch_lib.experiments.preparation import Prepared
from adaswitch_lib.experiments.tasks.task import Task
from adaswitch_lib.experiments.training import Trained
from adaswitch_lib.rollout import NonFiniteLogits


@dataclass(frozen=True)
class Evaluated:
    """What a student's test leaves.

    Attributes:
        items: one row an item: its scores, the answer, task and example.
        collapsed: whether the student gave NaN or infinite logits, in training or here; it has then solved nothing.
    """

    items: pd.DataFrame
    collapsed: bool


def evaluate_student(prepared: Prepared, trained: Trained) -> Evaluated:
    """Score the student on the test rows of every task that its task's students are tested on."""
    config, tokenizer = prepared.config, prepared.pair.tokenizer
    if trained.student is not None:
        try:
            return Evaluated(test_items(config, prepared.tested, trained.student, tokenizer), collapsed=False)
        except NonFiniteLogits as error:  # only the student writes here
            logger.warning("%s: collapsed in the test: %s", config.id, error)
    return Evaluated(test_items(config, prepared.tested, None, tokenizer), collapsed=True)


def test_items(
    config: RunConfig, tasks: Sequence[Task], model: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase
) -> pd.DataFrame:
    """One row a test item of every task: its scores, the answer, task and example. No model: of empty answers."""
    parts = []
    for task in tasks if config.test_rows else ():
        rows = task.load("test", config.test_rows, 0)
        if model is None:
            items = task.scores([""] * len(rows), rows).assign(answer="")
        else:
            with torch.autocast(model.device.type, torch.bfloat16, enabled=config.bf16):
                items = evaluate(model, tokenizer, task, rows)
        parts.append(items.assign(task=task.name, example=range(len(rows))))
    return pd.concat(parts) if parts else pd.DataFrame()
