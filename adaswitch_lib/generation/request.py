"""What `generate` is asked to do, checked before any work is done."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adaswitch_lib.generation.decoder import check_can_be_cut


@dataclass(frozen=True)
class Request:
    """The arguments of `generate`, except the policy.

    Raises:
        ValueError: if they do not fit together; the message says what to do.
    """

    teacher: PreTrainedModel
    student: PreTrainedModel
    prompt_ids: Tensor
    prompt_mask: Tensor
    max_new_tokens: int
    row_seeds: Sequence[int]
    temperature: float
    eos_token_id: int | Sequence[int]
    pad_token_id: int
    block_size: int
    record_divergence: bool
    keep_teacher_logits: bool

    def __post_init__(self):
        self._check_numbers()
        self._check_prompts()
        self._check_models()
        self._check_ids()

    @property
    def eos_token_ids(self) -> Tensor:
        return torch.as_tensor(self.eos_token_id, device=self.prompt_ids.device).reshape(-1)

    def _check_numbers(self) -> None:
        for name in ("max_new_tokens", "block_size"):
            number = getattr(self, name)
            if not (isinstance(number, Integral) and number >= 1):
                raise ValueError(f"{name} must be a whole number of tokens, 1 or more, got {number}.")
        if self.temperature != 0 and not 1e-4 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be 0 (greedy) or a number from 0.0001 upwards, got {self.temperature}.")

    def _check_prompts(self) -> None:
        ids, mask = self.prompt_ids, self.prompt_mask
        if not (isinstance(ids, Tensor) and isinstance(mask, Tensor)):
            raise ValueError("prompt_ids and prompt_mask must be tensors: tokenize with padding=True, return_tensors='pt'.")
        if ids.dim() != 2 or ids.shape != mask.shape:
            raise ValueError(
                f"prompt_ids and prompt_mask must both have shape [batch prompt], got {list(ids.shape)} and {list(mask.shape)}."
            )
        try:
            seeds = [operator.index(seed) for seed in self.row_seeds]
        except TypeError:
            raise ValueError(f"row_seeds needs one integer a row, got {self.row_seeds}.") from None
        if len(ids) != len(seeds) or not all(-(2**63) <= seed < 2**64 for seed in seeds):
            raise ValueError(f"row_seeds needs one integer a row, of at most 64 bits: {len(ids)} for this batch, got {seeds}.")
        mask = mask.bool()
        if len(ids) == 0 or not mask.any(-1).all():
            raise ValueError("empty prompt: every row needs at least one real token; a BOS token will do.")
        if not (mask[:, -1].all() and (mask[:, 1:] >= mask[:, :-1]).all()):
            raise ValueError("prompts must be padded on the left: set tokenizer.padding_side = 'left' and tokenize again.")

    def _check_models(self) -> None:
        teacher, student = self.teacher, self.student
        check_can_be_cut(teacher)
        check_can_be_cut(student)
        vocab = {who: model.config.get_text_config().vocab_size for who, model in (("teacher", teacher), ("student", student))}
        if vocab["teacher"] != vocab["student"]:
            raise ValueError(
                f"unequal vocabularies: the teacher scores {vocab['teacher']} ids, the student {vocab['student']}. If "
                "they share a tokenizer, load them with adaswitch_lib.load_pair, or cut both to the ids they share: "
                "cut_to(check_shared_vocabulary(teacher, student, tokenizer, tokenizer), teacher, student)."
            )
        if not teacher.device == student.device == self.prompt_ids.device:
            raise ValueError(
                f"teacher ({teacher.device}), student ({student.device}) and prompts ({self.prompt_ids.device}) must be "
                "on one device: move them with .to(device)."
            )
        length = int(self.prompt_mask.long().sum(-1).max()) + self.max_new_tokens
        for who, model in (("teacher", teacher), ("student", student)):
            limit = _most_tokens(model)
            if limit is not None and length > limit:
                raise ValueError(
                    f"prompt and completion may have {length} tokens together, but the {who} was made for {limit}: "
                    "shorten the prompts or lower max_new_tokens."
                )

    def _check_ids(self) -> None:
        try:
            eos = self.eos_token_ids
        except (TypeError, RuntimeError):  # None, a set, …
            eos = torch.tensor([])
        if len(eos) == 0 or eos.is_floating_point():
            raise ValueError(f"no EOS id: pass eos_token_id, one id or a list, as tokenizer.eos_token_id; got {self.eos_token_id}.")
        if self.pad_token_id is None:
            raise ValueError("no pad id: pass pad_token_id; a tokenizer without one can use its EOS id.")
        vocab = self.teacher.config.get_text_config().vocab_size
        ids = torch.cat([self.prompt_ids[self.prompt_mask.bool()], self.eos_token_ids])
        if ids.min() < 0 or ids.max() >= vocab or not 0 <= self.pad_token_id < vocab:
            raise ValueError(f"ids of prompts, EOS and padding must lie in [0, {vocab}), the models' vocabulary.")


def _most_tokens(model: PreTrainedModel) -> int | None:
    """How many tokens a text may have. Rotary positions that are stretched once a text is long (longrope, dynamic) would score a
    long text otherwise than they wrote it, token by token: such a model has only its first length."""
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in ("longrope", "dynamic"):
        first = rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
        return first or config.max_position_embeddings
    return getattr(config, "max_position_embeddings", None)
