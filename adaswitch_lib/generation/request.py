"""What `generate` is asked to do, checked before any work is done."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adaswitch_lib.generation.supported import check_is_whole, check_supported
from adaswitch_lib.models import is_spread, most_tokens, num_scored_ids


def check_noise(name: str, share: float) -> None:
    """Raise ValueError for what is no share of tokens."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name} is a share of the tokens and must lie between 0 and 1, got {share}.")


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
    teacher_temperature: float | None
    student_noise: float
    eos_token_id: int | Sequence[int]
    pad_token_id: int
    block_size: int
    record_divergence: bool
    keep_teacher_logits: bool
    vocab_size: int | None = None
    student_ids: Tensor | None = None

    def __post_init__(self):
        models = {"teacher": self.teacher, "student": self.student}
        for who, model in models.items():
            check_is_whole(model, who)
        if self.vocab_size is None:
            object.__setattr__(self, "vocab_size", min(map(num_scored_ids, models.values())))
        self._check_numbers()
        self._check_prompts()
        self._check_ids()
        self._check_student_ids()
        for who, model in models.items():
            self._check_model(who, model)
        for model in models.values():
            check_supported(model, self.vocab_size, self.prompt_ids.device)

    @property
    def eos_token_ids(self) -> Tensor:
        return torch.as_tensor(self.eos_token_id, device=self.prompt_ids.device).reshape(-1)

    def _check_numbers(self) -> None:
        for name, unit in {"max_new_tokens": "tokens", "block_size": "tokens", "vocab_size": "ids"}.items():
            number = getattr(self, name)
            if not (isinstance(number, Integral) and number >= 1):
                raise ValueError(f"{name} must be a whole number of {unit}, 1 or more, got {number}.")
        if self.teacher_temperature is None:
            object.__setattr__(self, "teacher_temperature", self.temperature)
        for name in ("temperature", "teacher_temperature"):
            temperature = getattr(self, name)
            if temperature != 0 and not 1e-4 <= temperature < float("inf"):
                raise ValueError(f"{name} must be 0 (greedy) or a number from 0.0001 upwards, got {temperature}.")
        check_noise("student_noise", self.student_noise)

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

    def _check_ids(self) -> None:
        try:
            eos = self.eos_token_ids
        except (TypeError, RuntimeError):  # None, a set, …
            eos = torch.tensor([])
        if len(eos) == 0 or eos.is_floating_point():
            raise ValueError(f"no EOS id: pass eos_token_id, one id or a list, as tokenizer.eos_token_id; got {self.eos_token_id}.")
        if self.pad_token_id is None:
            raise ValueError("no pad id: pass pad_token_id; a tokenizer without one can use its EOS id.")
        ids = torch.cat([self.prompt_ids[self.prompt_mask.bool()], self.eos_token_ids])
        if ids.min() < 0 or ids.max() >= self.vocab_size or not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"ids of prompts, EOS and padding must lie in [0, {self.vocab_size}), the vocabulary.")

    def _check_student_ids(self) -> None:
        given = self.student_ids
        if given is None:
            return
        if len(given) != len(self.prompt_ids) or given.min() < 0 or given.max() >= self.vocab_size:
            raise ValueError(f"student_ids must have one row a prompt, of ids in [0, {self.vocab_size}).")
        ends = torch.isin(given[:, : self.max_new_tokens], self.eos_token_ids).any(-1)
        if given.shape[1] < self.max_new_tokens and not ends.all():
            raise ValueError("a row of student_ids ends neither with an EOS nor at max_new_tokens.")

    def _check_model(self, who: str, model: PreTrainedModel) -> None:
        if num_scored_ids(model) < self.vocab_size:
            raise ValueError(
                f"unequal vocabularies: vocab_size is {self.vocab_size}, but the {who} scores only {num_scored_ids(model)} ids. "
                "See adaswitch_lib.check_shared_vocabulary."
            )
        if not is_spread(model) and model.device != self.prompt_ids.device:
            where = f"the {who} is on {model.device} and the prompts are on {self.prompt_ids.device}"
            raise ValueError(f"{where}: move them to one device with .to(device).")
        length, limit = int(self.prompt_mask.bool().sum(-1).max()) + self.max_new_tokens, most_tokens(model)
        if getattr(model.config.get_text_config(decoder=True), "attn_temperature_tuning", False):  # see most_tokens
            length = self.prompt_ids.shape[1] + self.max_new_tokens + self.block_size
        if limit is not None and length > limit:
            raise ValueError(
                f"prompt and completion may have {length} tokens together, but the {who} was made for {limit}: "
                "shorten the prompts or lower max_new_tokens."
            )
