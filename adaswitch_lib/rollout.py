"""What a policy wrote: the tokens, who wrote each, and how far the two models disagreed there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

if TYPE_CHECKING:
    import pandas as pd


class Source(IntEnum):
    """Who wrote a token."""

    PADDING = -1
    STUDENT = 0
    TEACHER = 1
    DATA = 2


class NonFiniteLogits(ValueError):
    """A model, `of`, gives NaN or infinite logits: broken weights, or a training that has collapsed."""

    def __init__(self, of: Source, what: str = "NaN or infinite logits"):
        self.of = of
        super().__init__(
            f"the {of.name.lower()} gives {what}. Check its weights, and load it in float32 or bfloat16 if it is in float16."
        )


def has_no_distribution(logits: Tensor) -> bool:
    """Whether a token's logits, shape [… vocab], are no next-token distribution: NaN, +inf, or nothing but -inf."""
    return not bool(logits.float().logsumexp(-1).isfinite().all())


# what stands on padding; ids under a mask of 0 may be anything, and 0 is an id of every model
PADDING = {
    "prompt_ids": 0,
    "prompt_mask": 0,
    "completion_ids": 0,
    "completion_mask": 0,
    "source": int(Source.PADDING),
    "divergence": torch.nan,
    "threshold": torch.nan,
    "teacher_logits": 0,
}


@dataclass(frozen=True)
class Rollout:
    """A batch of prompts with one completion each. Prompts are padded on the left, completions on the right.

    Attributes:
        prompt_ids, prompt_mask: shape [batch prompt], long; the mask is 1 on real tokens.
        completion_ids, completion_mask: shape [batch pos], long. A completion that ended holds exactly
            one EOS, its last real token.
        source: who wrote each token, a `Source` value, shape [batch pos], long.
        divergence: d_i between the next-token distributions from which token i was chosen, shape
            [batch pos], nats; NaN on padding and where it was not measured.
        threshold: τ_i that d_i was held against, shape [batch pos], nats; +inf where the policy could
            not switch yet, NaN on padding, for policies without one, and where d was not measured. Behind
            `switch_index` it is what d_i would have been held against.
        switch_index: position in the completion from which the teacher writes to the end, shape
            [batch], long; -1: never. For `StopAtSwitch` the position at which the row was cut.
        teacher_logits: the teacher's logits from which token i was (or could have been) chosen, shape
            [batch pos vocab], in the teacher's type, 0 on padding; None unless they were asked for.
        vocab_size: how many ids, from 0, count: what lies behind them is padding of the embeddings. None: all that a model
            scores.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    source: Tensor
    divergence: Tensor
    threshold: Tensor
    switch_index: Tensor
    teacher_logits: Tensor | None = None
    vocab_size: int | None = None

    @classmethod
    def from_data(
        cls,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
        completion_ids: Tensor,
        completion_mask: Tensor,
        vocab_size: int | None = None,
    ) -> Rollout:
        """Completions that come from a data set, in the form of those that a policy wrote.

        Raises:
            ValueError: for prompts that are not padded on the left, or completions that are not on the right.
        """
        prompts, completions = prompt_mask.bool(), completion_mask.bool()
        if (prompts[:, :-1] & ~prompts[:, 1:]).any():
            raise ValueError("prompts must be padded on the left: tokenize them with padding_side='left'.")
        if (~completions[:, :-1] & completions[:, 1:]).any():
            raise ValueError("completions must be padded on the right: tokenize them with padding_side='right'.")
        nothing = torch.full(completion_ids.shape, torch.nan, dtype=torch.float32, device=completion_ids.device)
        return cls(
            prompt_ids,
            prompt_mask,
            completion_ids,
            completion_mask,
            source=torch.where(completion_mask.bool(), int(Source.DATA), int(Source.PADDING)),
            divergence=nothing,
            threshold=nothing,
            switch_index=completion_ids.new_full(completion_ids.shape[:1], -1),
            vocab_size=vocab_size,
        )

    def to(self, device: torch.device | str) -> Rollout:
        """The same rollout on a device."""
        return replace(self, **{name: value.to(device) for name, value in self._tensors().items()})

    def rows(self, index: Sequence[int]) -> Rollout:
        """These rows, in this order, without columns that are padding in all of them."""
        at = torch.as_tensor(list(index), device=self.switch_index.device)
        taken = {name: value[at] for name, value in self._tensors().items()}
        prompt, completion = (int(taken[name].sum(-1).max()) for name in ("prompt_mask", "completion_mask"))
        for name in PADDING.keys() & taken.keys():
            first = self.prompt_ids.shape[1] - prompt
            taken[name] = taken[name][:, first:] if name.startswith("prompt") else taken[name][:, :completion]
        return replace(self, **taken)

    def by_length(self, size: int) -> list[Rollout]:
        """All rows, the longest first, `size` at a time: rows of similar length together, with little padding."""
        longest_first = self.attention_mask.sum(-1).argsort(descending=True, stable=True)
        return [self.rows(part.tolist()) for part in longest_first.split(size)]

    @staticmethod
    def join(rollouts: Sequence[Rollout]) -> Rollout:
        """The rows of all, one after the other. Teacher's logits are kept only if all have them."""
        if len(rollouts) == 1:
            return rollouts[0]
        parts = {name: [getattr(rollout, name) for rollout in rollouts] for name in ("switch_index", *PADDING)}
        if any(logits is None for logits in parts["teacher_logits"]):
            del parts["teacher_logits"]
        for name in PADDING.keys() & parts.keys():
            width = max(part.shape[1] for part in parts[name])
            parts[name] = [_padded(part, width, name) for part in parts[name]]
        joined = {name: torch.cat(same) for name, same in parts.items()}
        return Rollout(**joined, vocab_size=rollouts[0].vocab_size)

    @property
    def sequences(self) -> Tensor:
        """Prompt and completion, shape [batch prompt+pos]."""
        return torch.cat([self.prompt_ids, self.completion_ids], dim=1)

    @property
    def attention_mask(self) -> Tensor:
        """1 on the real tokens of `sequences`."""
        return torch.cat([self.prompt_mask, self.completion_mask], dim=1)

    def to_frame(self, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
        """One line per completion token: example, pos, token_id, token, source, divergence, threshold. Needs pandas."""
        import pandas as pd

        real = self.completion_mask.bool().cpu()
        example, pos = real.nonzero(as_tuple=True)
        token_id = self.completion_ids.cpu()[real].tolist()
        return pd.DataFrame(
            {
                "example": example.numpy(),
                "pos": pos.numpy(),
                "token_id": token_id,
                "token": [tokenizer.decode([token]) for token in token_id],
                "source": [Source(value).name.lower() for value in self.source.cpu()[real].tolist()],
                "divergence": self.divergence.cpu()[real].numpy(),
                "threshold": self.threshold.cpu()[real].numpy(),
            }
        )

    def _tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}


def switch_sums(rollout: Rollout) -> Tensor:
    """What `switch_means` are made of; may be added up over processes."""
    switched = rollout.switch_index >= 0
    at = rollout.switch_index[switched]
    # a row that was cut at its switch has no token there
    divergence = torch.nn.functional.pad(rollout.divergence[switched], (0, 1), value=torch.nan).gather(1, at[:, None])
    measured = ~divergence.isnan()
    return torch.stack(
        [
            torch.as_tensor(len(switched), device=at.device),
            rollout.completion_mask.sum(),
            (rollout.source == Source.TEACHER).sum(),
            switched.sum(),
            at.sum(),
            measured.sum(),
            divergence[measured].sum(),
        ]
    )


def switch_means(sums: Tensor) -> dict[str, float]:
    """Of a batch. NaN where there is nothing to average."""
    rows, tokens, by_teacher, switched, positions, measured, divergence = sums.cpu().double().unbind()
    return {
        "switch_rate": float(switched / rows),
        "switch_position": float(positions / switched),
        "switch_divergence": float(divergence / measured),
        "teacher_share": float(by_teacher / tokens),
        "length": float(tokens / rows),
    }


def _padded(tensor: Tensor, width: int, name: str) -> Tensor:
    gap = width - tensor.shape[1]
    sides = (gap, 0) if name.startswith("prompt") else (0, gap)
    return torch.nn.functional.pad(tensor, (0, 0) * (tensor.dim() - 2) + sides, value=PADDING[name])
