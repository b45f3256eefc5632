"""What a task is: rows, a scorer, lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from datasets import Dataset


@dataclass(frozen=True)
class Task:
    """Rows to learn and be examined on.

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
        trained_as: the task whose students answer it; another one's for tasks without training of their own.
        first_mistake: of a completion, the index of its first wrong word (its length, where it ends too early), None if it
            is right; None for tasks that cannot tell.
    """

    name: str
    label: str
    style: tuple[str, str]
    metric: str
    metric_label: str
    load: Callable[[str, int, int], Dataset]
    score: Callable[[str, Mapping], dict[str, float]]
    max_prompt_tokens: int
    max_new_tokens: int
    trained_as: str
    first_mistake: Callable[[str, Mapping], int | None] | None = None

    def scores(self, completions: Sequence[str], rows: Dataset) -> pd.DataFrame:
        """One line an item, one column a metric; NaN where a metric does not apply to an item.

        Raises:
            ValueError: if there is not one completion a row.
        """
        if len(completions) != len(rows):
            raise ValueError(f"{self.name}: {len(completions)} completions for {len(rows)} rows.")
        return pd.DataFrame([self.score(completion, row) for completion, row in zip(completions, rows, strict=True)])
