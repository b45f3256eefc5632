"""From texts to token ids: prompts, rows with completions, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchEncoding, PreTrainedTokenizerBase

from adaswitch_lib.rollout import Rollout


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Ids and mask of the prompts, padded on the left, shape [batch prompt]; through the chat template where there is one.

    Raises:
        TypeError: for a single text.
    """
    if isinstance(prompts, str):
        raise TypeError("prompts must be a list of texts, got one text: put it into a list.")
    encoded = encode_texts(tokenizer, prompts, padding=True, padding_side="left", return_tensors="pt")
    return encoded["input_ids"], encoded["attention_mask"]


def encode_texts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], **settings: Any) -> BatchEncoding:
    if tokenizer.chat_template is not None:
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}],
                add_generation_prompt=True,
                tokenize=False,
                date_string="26 Jul 2024",  # Llama's template would write today's: another prompt every day
            )
            for prompt in prompts
        ]
    has_template = tokenizer.chat_template is not None  # which writes its own special tokens
    return tokenizer(list(prompts), add_special_tokens=not has_template, **settings)


def encode_rows(rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Rows with `prompt` and `completion` as text, to ids; every completion ends with EOS."""
    prompt_ids, prompt_mask = encode_prompts(tokenizer, rows["prompt"])
    completions = tokenizer(list(rows["completion"]), add_special_tokens=False)["input_ids"]
    return Dataset.from_dict(
        {
            "prompt_ids": [ids[mask.bool()].tolist() for ids, mask in zip(prompt_ids, prompt_mask, strict=True)],
            "completion_ids": [[*ids, tokenizer.eos_token_id] for ids in completions],
            "place": range(len(rows)),
        }
    )


@dataclass(frozen=True)
class RowCollator:
    """Rows of `encode_rows` to a `Rollout` of the data, and their places in the data set."""

    pad_token_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> tuple[Rollout, list[int]]:
        def padded(name: str, side: str) -> tuple[Tensor, Tensor]:
            ids = [torch.tensor(row[name]) for row in rows]
            mask = [torch.ones_like(row) for row in ids]
            return (
                pad_sequence(ids, batch_first=True, padding_value=self.pad_token_id, padding_side=side),
                pad_sequence(mask, batch_first=True, padding_side=side),
            )

        return Rollout.from_data(*padded("prompt_ids", "left"), *padded("completion_ids", "right")), [row["place"] for row in rows]
