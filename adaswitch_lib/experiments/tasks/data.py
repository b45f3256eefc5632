"""GSM8K, GSM-Plus and DialogSum, from a local folder or the hub.

The environment variable ADASWITCH_DATA names a folder with `gsm8k/train.jsonl`, `gsm8k/test.jsonl`,
`gsm_plus/testmini.jsonl` and `dialogsum/{train.jsonl.gz,validation.jsonl,test.jsonl}`. Without it the
same sets come from the hub. Licences: GSM8K MIT, GSM-Plus CC BY-SA 4.0, DialogSum CC BY-NC-SA 4.0
(not for commercial use).
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaswitch_lib.experiments.paths import data_dir
from adaswitch_lib.experiments.tasks.task import check_split

if TYPE_CHECKING:
    from datasets import Dataset

FILES = {
    "gsm8k": {"train": "gsm8k/train.jsonl", "test": "gsm8k/test.jsonl"},
    "gsm_plus": {"testmini": "gsm_plus/testmini.jsonl"},
    "dialogsum": {
        "train": "dialogsum/train.jsonl.gz",
        "validation": "dialogsum/validation.jsonl",
        "test": "dialogsum/test.jsonl",
    },
}
COLUMNS = {
    "gsm8k": ("question", "answer"),
    "gsm_plus": ("question", "solution", "answer", "perturbation_type"),
    "dialogsum": ("dialogue", "summary"),
}
"""What every row must have, as text; a test dialogue has `summary1` and more."""
HUB = {"gsm8k": ("openai/gsm8k", "main"), "gsm_plus": ("qintongli/GSM-Plus",), "dialogsum": ("knkarthick/dialogsum",)}


def load_split(task: str, split: str) -> Dataset:
    """The rows of one split, with the fields of their source.

    Args:
        task: "gsm8k", "gsm_plus" or "dialogsum".
        split: "train" and "test"; "testmini" for gsm_plus; dialogsum also has "validation". DialogSum's test
            rows differ: `summary1` … `summary3` in the folder, one row a reference on the hub.

    Raises:
        ValueError: for a task or split that does not exist, and a file that is broken.
        FileNotFoundError: if ADASWITCH_DATA is set and the file is not there.
        ConnectionError: if it is not set and the hub cannot be reached.
    """
    from datasets import Dataset, load_dataset

    if task not in FILES:
        raise ValueError(f"unknown task {task!r}: use one of {', '.join(FILES)}.")
    check_split(task, split, tuple(FILES[task]))
    name, folder = FILES[task][split], data_dir()
    if folder is not None:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"ADASWITCH_DATA names {folder}, which has no {name}; unset it to use the hub.")
        return Dataset.from_list(_read(folder / name, COLUMNS[task]))
    try:
        return load_dataset(*HUB[task], split=split)
    except OSError as error:
        raise ConnectionError(
            f"{HUB[task][0]} does not come from the hub ({error}): set ADASWITCH_DATA to a folder that has {name}."
        ) from error


def draw(rows: Dataset, size: int, seed: int) -> Dataset:
    """`size` rows in random order, or all that there are."""
    return rows.shuffle(seed=seed).select(range(min(size, len(rows))))


def _read(file: Path, columns: Sequence[str]) -> list[dict]:
    """The rows of a file with one JSON object a line.

    Raises:
        ValueError: for a file that is empty, cut off or not of this kind; names the file and the line.
    """
    rows: list[dict] = []
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                texts = [name for name in row if isinstance(row[name], str)]
                if missing := [column for column in columns if not any(name.startswith(column) for name in texts)]:
                    raise ValueError(f"no text named {missing[0]!r}")
                rows.append(row)
        if not rows:
            raise ValueError("no rows")
    except (OSError, EOFError, zlib.error, ValueError, TypeError) as error:
        raise ValueError(f"{file} is broken at line {len(rows) + 1} ({error}): replace it by a whole copy.") from error
    return rows
