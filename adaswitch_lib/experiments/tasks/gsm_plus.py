"""GSM-Plus: perturbed questions of GSM8K's test split, an evaluation of its students. CC BY-SA 4.0; see `data.load_split`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from adaswitch_lib.experiments.tasks.data import draw, load_split
from adaswitch_lib.experiments.tasks.gsm8k import prompt, score
from adaswitch_lib.experiments.tasks.task import Task, check_split

if TYPE_CHECKING:
    from datasets import Dataset


def load(split: str, size: int, seed: int) -> Dataset:
    """The questions without the 300 that lack a needed statement and have no answer."""
    check_split("gsm_plus", split, ("test",))
    rows = load_split("gsm_plus", "testmini")
    return draw(rows.filter(lambda row: row["answer"] != "None"), size, seed).map(_row, remove_columns=rows.column_names)


def _row(row: Mapping[str, str]) -> dict[str, str]:
    return {
        "prompt": prompt(row),
        "completion": row["solution"],
        "answer": row["answer"],
        "perturbation": row["perturbation_type"].replace(" ", "_"),
    }


TASK = Task(
    name="gsm_plus",
    label="GSM-Plus",
    style=("#44AA99", "v"),
    metric="accuracy",
    metric_label="accuracy",
    load=load,
    score=score,
    max_prompt_tokens=320,
    max_new_tokens=256,
    trained_as="gsm8k",
)
