"""GSM8K, and GSM-Plus as an examination of its students. Real text; see `data.load_split` for where it comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping

from datasets import Dataset

from adaswitch_lib.experiments.scoring import final_number
from adaswitch_lib.experiments.tasks.data import load_split
from adaswitch_lib.experiments.tasks.prompts import prompt_of
from adaswitch_lib.experiments.tasks.task import Task

VALIDATION_ROWS = 500
"""GSM8K has no validation split: these last rows of its training split are ours."""


def _gsm8k(split: str, size: int, seed: int) -> Dataset:
    rows = load_split("gsm8k", "test" if split == "test" else "train")
    if split != "test":
        cut = len(rows) - min(VALIDATION_ROWS, len(rows) // 10)
        rows = rows.select(range(cut) if split == "train" else range(cut, len(rows)))
    return _some(rows, size, seed).map(_worked, remove_columns=["question"])


def _gsm_plus(split: str, size: int, seed: int) -> Dataset:
    """The perturbed questions of the test split, without the 300 that lack a needed statement and have no answer."""
    if split != "test":
        raise ValueError(f"gsm_plus is an examination: it has the split test alone, not {split!r}.")
    rows = load_split("gsm_plus", "testmini")
    return _some(rows.filter(lambda row: row["answer"] != "None"), size, seed).map(_perturbed, remove_columns=rows.column_names)


def score(completion: str, row: Mapping[str, str]) -> dict[str, float]:
    """1 if the final number is the answer's, for the task and for the row's perturbation."""
    found, wanted = final_number(completion), final_number(row["answer"])
    right = float(found is not None and wanted is not None and abs(found - wanted) < 1e-6)
    perturbation = row["perturbation"]
    return {"accuracy": right} | ({f"accuracy_{perturbation}": right} if perturbation else {})


def _some(rows: Dataset, size: int, seed: int) -> Dataset:
    return rows.shuffle(seed=seed).select(range(min(size, len(rows))))


def _worked(row: Mapping[str, str]) -> dict[str, str]:
    solution = re.sub(r"<<.*?>>", "", row["answer"])  # the calculator's notes
    return {"prompt": prompt_of(row), "completion": solution, "answer": solution.rpartition("####")[2].strip(), "perturbation": ""}


def _perturbed(row: Mapping[str, str]) -> dict[str, str]:
    return {
        "prompt": prompt_of(row),
        "completion": row["solution"],
        "answer": row["answer"],
        "perturbation": row["perturbation_type"].replace(" ", "_"),
    }


GSM8K = Task(
    name="gsm8k",
    label="GSM8K",
    style=("#6699CC", "p"),
    metric="accuracy",
    metric_label="accuracy",
    load=_gsm8k,
    score=score,
    max_prompt_tokens=256,
    max_new_tokens=256,
    trained_as="gsm8k",
)
GSM_PLUS = Task(
    name="gsm_plus",
    label="GSM-Plus",
    style=("#44AA99", "v"),
    metric="accuracy",
    metric_label="accuracy",
    load=_gsm_plus,
    score=score,
    max_prompt_tokens=320,
    max_new_tokens=256,
    trained_as="gsm8k",
)
