"""What a task is: rows, a scorer, lengths, and how it looks in tables and figures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # tasks are imported without torch and datasets
    import pandas as pd
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Task:
    """Rows to learn from and to be evaluated on.

    Attributes:
        name: as on the command line and in results.
        label: its name in tables and figures.
        style: colour and marker in figures.
        metric: the score that figures and tables show, between 0 and 1.
        metric_label: the name of that score.
        load: `load(split, size, seed)` gives rows with `prompt`, `completion` and what `score` needs. Splits are
            "train", "validation" and "test", and share no problem.
        score: of one completion for its row: metric -> value.
        max_prompt_tokens, max_new_tokens: the lengths that it is meant for. All micro data fit; of real text a few rows
            are longer.
        trained_as: the task whose students answer it; "": its own. Another's for tasks that are evaluations alone.
        first_mistake: of a completion, the index of its first wrong word (its length, where it ends too early), None if it
            is right; None for tasks that cannot tell.
        teacher_rows: what its teacher learns from, as `load`; None: the rows of `load`.
        is_micro: whether it is written in the words of `micro_tokenizer`; its teacher then ships with the package.
    """

    name: str
    label: str
    style: tuple[str, str]
    metric: str
    metric_label: str
    load: Callable[[str, int, int], Dataset]
    score: Callable[[str, Mapping[str, Any]], dict[str, float]]
    max_prompt_tokens: int
    max_new_tokens: int
    trained_as: str = ""
    first_mistake: Callable[[str, Mapping[str, Any]], int | None] | None = None
    teacher_rows: Callable[[str, int, int], Dataset] | None = None
    is_micro: bool = False

    def __post_init__(self):
        object.__setattr__(self, "trained_as", self.trained_as or self.name)

    def scores(self, completions: Sequence[str], rows: Dataset) -> pd.DataFrame:
        """One line an item, one column a metric; NaN where a metric does not apply to an item.

        Raises:
            ValueError: if there is not one completion a row.
        """
        import pandas as pd

        if len(completions) != len(rows):
            raise ValueError(f"{self.name}: {len(completions)} completions for {len(rows)} rows.")
        return pd.DataFrame([self.score(completion, row) for completion, row in zip(completions, rows, strict=True)])


def check_split(task: str, split: str, splits: Sequence[str] = SPLITS) -> None:
    """Refuse what is no split of the task.

    Raises:
        ValueError: names the splits that there are.
    """
    if split not in splits:
        raise ValueError(f"{task} has no split {split!r}: use one of {', '.join(splits)}.")


def limited(
    task: Task, tokenizer: PreTrainedTokenizerBase, max_prompt_tokens: int | None = None, max_new_tokens: int | None = None
) -> Task:
    """The task with other lengths, in tokens of this tokenizer; one that is None stays the task's own.

    Rows of training and validation are left out whose prompt is longer than `max_prompt_tokens`, or whose completion and
    its EOS are longer than `max_new_tokens`. Test rows all stay; answers are cut at `max_new_tokens`. For tasks of
    real data, which have an end. With both None no row is left out: the task as it is.
    """
    if max_prompt_tokens is None and max_new_tokens is None:
        return task
    prompt, new = max_prompt_tokens or task.max_prompt_tokens, max_new_tokens or task.max_new_tokens

    def load(split: str, size: int, seed: int) -> Dataset:
        from adaswitch_lib.data import encode_rows  # imports torch

        if split == "test":
            return task.load(split, size, seed)
        rows = task.load(split, sys.maxsize, seed)
        encoded = encode_rows(rows.select_columns(["prompt", "completion"]), tokenizer)
        lengths = zip(map(len, encoded["prompt_ids"]), map(len, encoded["completion_ids"]), strict=True)
        fits = [row for row, (prompt_length, new_length) in enumerate(lengths) if prompt_length <= prompt and new_length <= new]
        return rows.select(fits[:size])

    return replace(task, load=load, max_prompt_tokens=prompt, max_new_tokens=new)
