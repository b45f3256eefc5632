"""DialogSum: dialogues to summaries. CC BY-NC-SA 4.0, so not in this package; see `data.load_split`."""

from __future__ import annotations

from collections.abc import Mapping

from datasets import Dataset

from adaswitch_lib.experiments.scoring import rouge_l
from adaswitch_lib.experiments.tasks.data import load_split
from adaswitch_lib.experiments.tasks.prompts import prompt_of
from adaswitch_lib.experiments.tasks.task import Task


def _rows(split: str, size: int, seed: int) -> Dataset:
    """One row a dialogue, with all its summaries. Left out: of training what validation or test has, too, of validation what
    test has; dialogues that differ in case, spaces or punctuation alone are the same."""
    rows = _by_dialogue(split)
    later = {"train": ("validation", "test"), "validation": ("test",), "test": ()}[split]
    examined = {_letters(dialogue) for other in later for dialogue in _by_dialogue(other)}
    rows = {dialogue: summaries for dialogue, summaries in rows.items() if _letters(dialogue) not in examined}
    return (
        Dataset.from_list(
            [
                {"prompt": prompt_of({"dialogue": dialogue}), "completion": summaries[0], "references": summaries}
                for dialogue, summaries in rows.items()
            ]
        )
        .shuffle(seed=seed)
        .select(range(min(size, len(rows))))
    )


def _by_dialogue(split: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in load_split("dialogsum", split):
        # three references a test dialogue: as columns in the folder, as rows on the hub
        summaries = [row["summary"]] if "summary" in row else [row[f"summary{i}"] for i in (1, 2, 3)]
        found.setdefault(row["dialogue"], []).extend(summaries)
    return found


def _letters(dialogue: str) -> str:
    return "".join(filter(str.isalnum, dialogue.casefold()))


def score(completion: str, row: Mapping) -> dict[str, float]:
    """ROUGE-L against the nearest of the references."""
    return {"rouge_l": rouge_l(completion, row["references"])}


DIALOGSUM = Task(
    name="dialogsum",
    label="DialogSum",
    style=("#661100", "D"),
    metric="rouge_l",
    metric_label="ROUGE-L",
    load=_rows,
    score=score,
    max_prompt_tokens=1024,
    max_new_tokens=128,
    trained_as="dialogsum",
)
