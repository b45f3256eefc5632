"""Examine a model on a task: greedy decoding, then the task's scorer."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adaswitch_lib.generation import OnPolicy, generate
from adaswitch_lib.tasks import encode_prompts
from adaswitch_lib.tasks.task import Task


def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    rows: Dataset,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 256,
) -> list[str]:
    """What the model answers to each row's prompt; greedy unless a temperature is given."""

    def batches() -> Iterator[str]:
        for start in range(0, len(rows), batch_size):
            prompts = rows[start : start + batch_size]["prompt"]
            ids, mask = (tensor.to(model.device) for tensor in encode_prompts(tokenizer, prompts))
            rollout = generate(
                OnPolicy(),
                model,
                model,
                ids,
                mask,
                max_new_tokens=task.max_new_tokens,
                row_seeds=range(seed + start, seed + start + len(prompts)),
                temperature=temperature,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                block_size=task.max_new_tokens,
                record_divergence=False,
            )
            for tokens, real in zip(rollout.completion_ids, rollout.completion_mask.bool(), strict=True):
                yield tokenizer.decode(tokens[real], skip_special_tokens=True)

    return list(batches())


def examine(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task, rows: Dataset) -> pd.DataFrame:
    """One line a row: its scores and the answer."""
    completions = answers(model, tokenizer, task, rows)
    return task.scores(completions, rows).assign(answer=completions)
