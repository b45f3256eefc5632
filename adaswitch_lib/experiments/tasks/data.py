"""GSM8K, GSM-Plus and DialogSum, from a local folder or the hub.

The environment variable ADASWITCH_DATA names a folder with `gsm8k/train.jsonl`, `gsm8k/test.jsonl`,
`gsm_plus/testmini.jsonl` and `dialogsum/{train.jsonl.gz,validation.jsonl,test.jsonl}`. Without it the
same sets come from the hub. Licences: GSM8K MIT, GSM-Plus CC BY-SA 4.0, DialogSum CC BY-NC-SA 4.0
(not for commercial use).
"""

from __future__ import annotations

import os
from pathlib import Path

from datasets import Dataset, load_dataset

FILES = {
    "gsm8k": {"train": "gsm8k/train.jsonl", "test": "gsm8k/test.jsonl"},
    "gsm_plus": {"testmini": "gsm_plus/testmini.jsonl"},
    "dialogsum": {
        "train": "dialogsum/train.jsonl.gz",
        "validation": "dialogsum/validation.jsonl",
        "test": "dialogsum/test.jsonl",
    },
}
HUB = {"gsm8k": ("openai/gsm8k", "main"), "gsm_plus": ("qintongli/GSM-Plus",), "dialogsum": ("knkarthick/dialogsum",)}


def load_split(task: str, split: str) -> Dataset:
    """The rows of one split, with the fields of their source.

    Args:
        task: "gsm8k", "gsm_plus" or "dialogsum".
        split: "train" and "test"; "testmini" for gsm_plus; dialogsum also has "validation". DialogSum's test
            rows differ: `summary1` … `summary3` in the folder, one row a reference on the hub.

    Raises:
        ValueError: for a task or split that does not exist.
        FileNotFoundError: if ADASWITCH_DATA is set and the file is not there.
    """
    if task not in FILES:
        raise ValueError(f"unknown task {task!r}: use one of {', '.join(FILES)}.")
    if split not in FILES[task]:
        raise ValueError(f"{task} has no split {split!r}: use one of {', '.join(FILES[task])}.")
    folder = os.environ.get("ADASWITCH_DATA")
    if folder is None:
        return load_dataset(*HUB[task], split=split)
    file = Path(folder) / FILES[task][split]
    if not file.is_file():
        raise FileNotFoundError(f"ADASWITCH_DATA names {folder}, which has no {FILES[task][split]}; unset it to use the hub.")
    return load_dataset("json", data_files={split: str(file)}, split=split)
