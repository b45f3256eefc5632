"""What a policy wrote: the tokens, who wrote each, and how far the two models disagreed there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase


class Source(IntEnum):
    """Who wrote a token."""

    PADDING = -1
    STUDENT = 0
    TEACHER = 1
    DATA = 2


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
            not switch yet, NaN on padding, for policies without one, and where d was not measured.
        switch_index: position in the completion from which the teacher writes to the end, shape
            [batch], long; -1: never. For `StopAtSwitch` the position at which the row was cut.
        teacher_logits: the teacher's logits from which token i was (or could have been) chosen, shape
            [batch pos vocab], in the teacher's type, 0 on padding; None unless they were asked for.
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

    @classmethod
    def from_data(cls, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor, completion_mask: Tensor) -> Rollout:
        """Completions that come from a data set, in the form of those that a policy wrote."""
        nothing = torch.full(completion_ids.shape, torch.nan, device=completion_ids.device)
        return cls(
            prompt_ids,
            prompt_mask,
            completion_ids,
            completion_mask,
            source=torch.where(completion_mask.bool(), int(Source.DATA), int(Source.PADDING)),
            divergence=nothing,
            threshold=nothing,
            switch_index=completion_ids.new_full(completion_ids.shape[:1], -1),
        )

    @property
    def sequences(self) -> Tensor:
        """Prompt and completion, shape [batch prompt+pos]."""
        return torch.cat([self.prompt_ids, self.completion_ids], dim=1)

    @property
    def attention_mask(self) -> Tensor:
        """1 on the real tokens of `sequences`."""
        return torch.cat([self.prompt_mask, self.completion_mask], dim=1)

    def to_frame(self, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
        """One line per completion token: example, pos, token_id, token, source, divergence, threshold."""
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
