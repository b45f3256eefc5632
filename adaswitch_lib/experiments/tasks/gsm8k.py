"""GSM8K: word problems with worked solutions. MIT; see `data.load_split` for where they come from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from adaswitch_lib.experiments.scoring import accuracy, final_number
from adaswitch_lib.experiments.tasks.data import draw, load_split
from adaswitch_lib.experiments.tasks.task import Task, check_split

if TYPE_CHECKING:
    from datasets import Dataset

VALIDATION_ROWS = 500
"""GSM8K has no validation split: these last rows of its training split are ours."""


def prompt(row: Mapping[str, str]) -> str:
    return row["question"]


def score(completion: str, row: Mapping[str, str]) -> dict[str, float]:
    """1 if the final number is the answer's, for the task and for the row's perturbation."""
    number, answer = final_number(completion), final_number(row["answer"])
    is_right = number is not None and answer is not None and abs(number - answer) < 1e-6
    return accuracy(is_right, row["perturbation"])


def load(split: str, size: int, seed: int) -> Dataset:
    check_split("gsm8k", split)
    rows = load_split("gsm8k", "test" if split == "test" else "train")
    if split != "test":
        cut = len(rows) - min(VALIDATION_ROWS, len(rows) // 10)
        rows = rows.select(range(cut) if split == "train" else range(cut, len(rows)))
    return draw(rows, size, seed).map(_row, remove_columns=["question"])


def _row(row: Mapping[str, str]) -> dict[str, str]:
    solution = re.sub(r"<<.*?>>", "", row["answer"])  # the calculator's notes
    return {"prompt": prompt(row), "completion": solution, "answer": solution.rpartition("####")[2].strip(), "perturbation": ""}


TASK = Task(
    name="gsm8k",
    label="GSM8K",
    style=("#6699CC", "p"),
    metric="accuracy",
    metric_label="accuracy",
    load=load,
    score=score,
    max_prompt_tokens=256,
    max_new_tokens=256,
)
