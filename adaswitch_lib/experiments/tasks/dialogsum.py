"""DialogSum: dialogues to summaries. CC BY-NC-SA 4.0, so not in this package; see `data.load_split`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from adaswitch_lib.experiments.scoring import rouge_l
from adaswitch_lib.experiments.tasks.data import draw, load_split
from adaswitch_lib.experiments.tasks.task import Task, check_split

if TYPE_CHECKING:
    from datasets import Dataset


def prompt(row: Mapping[str, str]) -> str:
    return f"Summarize this dialogue in one sentence.\n\n{row['dialogue']}"


def score(completion: str, row: Mapping) -> dict[str, float]:
    """ROUGE-L against the nearest of the references."""
    return {"rouge_l": rouge_l(completion, row["references"])}


def load(split: str, size: int, seed: int) -> Dataset:
    """One row a dialogue, with all its summaries. Left out: of training what validation or test has, too, of validation what
    test has; dialogues that differ in case, spaces or punctuation alone are the same."""
    from datasets import Dataset

    check_split("dialogsum", split)
    later = {"train": ("validation", "test"), "validation": ("test",), "test": ()}[split]
    left_out = {_letters(dialogue) for other in later for dialogue in _by_dialogue(other)}
    rows = [
        {"prompt": prompt({"dialogue": dialogue}), "completion": summaries[0], "references": summaries}
        for dialogue, summaries in _by_dialogue(split).items()
        if _letters(dialogue) not in left_out
    ]
    return draw(Dataset.from_list(rows), size, seed)


def _by_dialogue(split: str) -> dict[str, list[str]]:
    summaries: dict[str, list[str]] = {}
    for row in load_split("dialogsum", split):
        # three references a test dialogue: as columns in the folder, as rows on the hub
        summaries.setdefault(row["dialogue"], []).extend(row[name] for name in row if name.startswith("summary"))
    return summaries


def _letters(dialogue: str) -> str:
    return "".join(filter(str.isalnum, dialogue.casefold()))


TASK = Task(
    name="dialogsum",
    label="DialogSum",
    style=("#661100", "D"),
    metric="rouge_l",
    metric_label="ROUGE-L",
    load=load,
    score=score,
    max_prompt_tokens=1024,
    max_new_tokens=128,
)
