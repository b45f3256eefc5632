"""Evaluate a model on a task: greedy decoding, then the task's scorer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adaswitch_lib.data import RowCollator, encode_rows
from adaswitch_lib.experiments.tasks.task import Task
from adaswitch_lib.generation import generate
from adaswitch_lib.models import eos_token_ids, num_token_ids
from adaswitch_lib.policies import OnPolicy

VALUES_AT_ONCE = 2**23
"""How large a batch may be: its tokens, with prompts, answers and padding, times the width of the model."""


def evaluate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task, rows: Dataset) -> pd.DataFrame:
    """One line a row: its scores, and the answer.

    The model answers in eval mode without gradients, and is left in the mode that it came in.
    """
    completions = answers(model, tokenizer, task, rows)
    return task.scores(completions, rows).assign(answer=completions)


def answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task, rows: Dataset) -> list[str]:
    """What the model answers to each row's prompt: greedy, without special tokens."""
    prompts = encode_rows([{"prompt": prompt} for prompt in rows["prompt"]], tokenizer)
    collate = RowCollator(tokenizer.pad_token_id)
    tokens_at_once = VALUES_AT_ONCE // model.config.get_text_config().hidden_size
    texts = [""] * len(rows)
    for batch in _batches([len(row["prompt_ids"]) for row in prompts], task.max_new_tokens, tokens_at_once):
        asked = collate([prompts[row] for row in batch])
        rollout = generate(
            OnPolicy(),
            model,
            model,
            asked.prompt_ids.to(model.device),
            asked.prompt_mask.to(model.device),
            max_new_tokens=task.max_new_tokens,
            row_seeds=[0] * len(batch),  # greedy: no token is drawn
            temperature=0.0,
            eos_token_id=eos_token_ids(tokenizer, model),
            pad_token_id=tokenizer.pad_token_id,
            vocab_size=num_token_ids(tokenizer),
            block_size=task.max_new_tokens,
            record_divergence=False,
        )
        for row, tokens, is_real in zip(batch, rollout.completion_ids, rollout.completion_mask.bool(), strict=True):
            texts[row] = tokenizer.decode(tokens[is_real], skip_special_tokens=True)
    return texts


def _batches(lengths: Sequence[int], new: int, tokens_at_once: int) -> Iterator[list[int]]:
    """Rows by length, the longest first, as many at a time as fit; at least one."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batch and (len(batch) + 1) * (lengths[batch[0]] + new) > tokens_at_once:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
