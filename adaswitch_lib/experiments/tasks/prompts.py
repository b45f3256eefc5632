"""What the models are asked, and rows of a length that a run can afford."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from adaswitch_lib.data import encode_rows
from adaswitch_lib.experiments.tasks.task import Task

SAMPLES = {"gsm8k": "gsm8k.jsonl", "dialogue": "dialogues.jsonl"}


def prompt_of(row: Mapping[str, str]) -> str:
    """What the models are asked: a GSM8K or GSM-Plus row's question, or to sum up a row's dialogue."""
    if "question" in row:
        return row["question"]
    return f"Summarize this dialogue in one sentence.\n\n{row['dialogue']}"


def sample_prompts(kind: str) -> list[str]:
    """Prompts that ship with the package: eight "gsm8k" questions (MIT, training split) or eight "dialogue"s of our own.

    Raises:
        ValueError: for another kind.
    """
    if kind not in SAMPLES:
        raise ValueError(f"no samples of {kind!r}: use one of {', '.join(SAMPLES)}, or load_split for full sets.")
    lines = files("adaswitch_lib.experiments.tasks").joinpath("samples", SAMPLES[kind]).read_text("utf-8").splitlines()
    return [prompt_of(json.loads(line)) for line in lines]


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
        if split == "test":
            return task.load(split, size, seed)
        rows = task.load(split, sys.maxsize, seed)
        encoded = encode_rows(rows, tokenizer)
        fits = [i for i, row in enumerate(encoded) if len(row["prompt_ids"]) <= prompt and len(row["completion_ids"]) <= new]
        return rows.select(fits[:size])

    return replace(task, load=load, max_prompt_tokens=prompt, max_new_tokens=new)
