"""The perturbations of GSM-Plus of generated word problems, an evaluation of the students of `micro_gsm`: a distracting
sentence, more steps, larger numbers, other words, the question reversed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaswitch_lib.experiments.tasks.micro_gsm import PERTURBATIONS, rows, score
from adaswitch_lib.experiments.tasks.task import Task

if TYPE_CHECKING:
    from datasets import Dataset


def load(split: str, size: int, seed: int) -> Dataset:
    return rows(split, size, seed, PERTURBATIONS)


TASK = Task(
    name="micro_gsm_plus",
    label="perturbed word problems",
    style=("#88CCEE", "^"),
    metric="accuracy",
    metric_label="accuracy",
    load=load,
    score=score,
    max_prompt_tokens=80,
    max_new_tokens=96,
    trained_as="micro_gsm",
    is_micro=True,
)
