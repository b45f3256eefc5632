"""What cannot be trained is refused before the first step: the models, their tokenizer and the arguments, then every row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

from adaswitch_lib.generation.supported import check_is_whole
from adaswitch_lib.methods import Method
from adaswitch_lib.models import eos_token_ids, most_tokens, num_scored_ids, num_token_ids

Models = Mapping[str, PreTrainedModel]
"""The "student" and, where there is one, the "teacher"."""


def check_models(models: Models, method: Method, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError for models, a method and a tokenizer that do not go together."""
    if not isinstance(method, Method):
        raise ValueError(f"method must be a Method, as METHODS['adaswitch'], got {method!r}.")
    if "teacher" not in models and (method.policy is not None or method.loss != "nll"):
        raise ValueError(f"{method.label} needs a teacher.")
    for who, model in models.items():
        check_is_whole(model, who)
    if "teacher" in models and _storages(models["teacher"]) & _storages(models["student"]):
        raise ValueError("teacher and student share weights, and the teacher's are frozen: train a copy, copy.deepcopy(model).")
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ValueError(f"tokenizer must be a tokenizer, got {tokenizer!r:.60}: load_pair returns it with the models.")
    if tokenizer.pad_token_id is None:
        raise ValueError("the tokenizer has no pad token: set tokenizer.pad_token = tokenizer.eos_token.")
    if not eos_token_ids(tokenizer, *models.values()):
        raise ValueError("neither the tokenizer nor a model has an EOS token, by which a text ends: set tokenizer.eos_token.")
    for who, model in models.items():
        has, scored = num_token_ids(tokenizer), num_scored_ids(model)
        if tokenizer.pad_token_id >= scored:
            raise ValueError(
                f"the pad id {tokenizer.pad_token_id} lies outside the {scored} ids of the {who}: set tokenizer.pad_token = "
                "tokenizer.eos_token."
            )
        if has > scored:
            raise ValueError(
                f"unequal vocabularies: the tokenizer has {has} ids, the {who} scores {scored}. Choose models of one tokenizer; if "
                "tokens were added to it, call model.resize_token_embeddings."
            )


def check_arguments(args: TrainingArguments, has_scorer: bool) -> None:
    """Raise ValueError for arguments that training on rollouts cannot keep to."""
    if not hasattr(args, "max_new_tokens"):
        raise ValueError(f"args must be a RolloutConfig, got {args!r:.60}.")
    if not has_scorer and (args.eval_strategy != "no" or args.eval_on_start):
        raise ValueError("evaluation needs a scorer, from the student to {metric: value}: pass scorer=, or set eval_strategy='no'.")
    for name in ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"):  # before transformers 5.24, and since
        if (getattr(args, name, None) or {}).get("use_reentrant"):
            raise ValueError(
                "reentrant checkpointing fails where several processes train and a loss takes several forward passes: set "
                f"{name}={{'use_reentrant': False}}."
            )


def check_undivided(trainer: Trainer) -> None:
    """Raise ValueError where training would divide the student's weights among processes. A rollout takes as many passes as its
    texts are long: each process would wait for weights that the others, with shorter texts, no longer send."""
    deepspeed = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    if trainer.is_fsdp_enabled or (deepspeed is not None and deepspeed.zero_stage == 3):
        raise ValueError(
            "FSDP and ZeRO-3 divide the student's weights among processes, with which rollouts do not work: train with data "
            "parallelism or ZeRO-1 or -2, and an adapter (LoRA) where memory is short."
        )


class RowCheck:
    """What a row of `encode_rows` must keep to: the same for every method, but that some need no completion."""

    def __init__(self, method: Method, max_new_tokens: int, models: Models, tokenizer: PreTrainedTokenizerBase):
        self.reads_data = method.label if method.policy is None or method.data_share > 0 else None
        self.max_new_tokens = max_new_tokens
        self.most_tokens = min((limit for model in models.values() if (limit := most_tokens(model))), default=None)
        self.num_ids = num_token_ids(tokenizer)

    def fault(self, row: Mapping[str, Any]) -> str | None:
        """What is wrong with a row, and what to do."""
        if not {"prompt_ids", "completion_ids"} <= row.keys():
            return "prompt_ids or completion_ids are missing; make the data set by encode_rows(rows, tokenizer)"
        prompt, completion = row["prompt_ids"], row["completion_ids"]
        ids = [*prompt, *completion]
        if len(prompt) == 0:
            return "an empty prompt; leave such rows out, or have the tokenizer begin with a BOS token"
        if len(completion) == 0 and self.reads_data:
            return f"no completion, from which {self.reads_data} learns; add it, or choose a method whose policy writes"
        if min(ids) < 0 or max(ids) >= self.num_ids:
            return f"ids that are not among the tokenizer's {self.num_ids}; encode the rows with the tokenizer of the models"
        if len(completion) > self.max_new_tokens:
            return f"a completion longer than max_new_tokens = {self.max_new_tokens}; raise it, or leave such rows out"
        if self.most_tokens is not None and len(prompt) + self.max_new_tokens > self.most_tokens:
            return (
                f"a prompt that with max_new_tokens = {self.max_new_tokens} is longer than the {self.most_tokens} tokens that the "
                "models were made for; lower it, or leave such rows out"
            )
        return None

    def one(self, row: Mapping[str, Any]) -> None:
        """Raise ValueError for a row that does not pass."""
        if fault := self.fault(row):
            raise ValueError(f"train_dataset, row {row.get('place')}: {fault}.")

    def all(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Raise ValueError for rows that do not pass, with their numbers, and where there are none."""
        if len(rows) == 0:
            raise ValueError("train_dataset has no rows.")
        faulty = defaultdict(list)
        for i in range(len(rows)):
            faulty[self.fault(rows[i])].append(i)
        faulty.pop(None, None)
        if faulty:
            raise ValueError("\n".join(f"train_dataset, {_named(at)} of {len(rows)}: {fault}." for fault, at in faulty.items()))


def _named(rows: list[int]) -> str:
    shown = ", ".join(map(str, rows[:10])) + (", …" if len(rows) > 10 else "")
    return f"row {shown}" if len(rows) == 1 else f"{len(rows)} rows ({shown})"


def _storages(model: nn.Module) -> set[int]:
    """Where the weights lie in memory."""
    return {weight.untyped_storage().data_ptr() for weight in model.parameters() if weight.device.type != "meta"} - {0}
