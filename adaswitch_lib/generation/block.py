"""Rows that are written together, and what has been drafted of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor

from adaswitch_lib.generation.decoder import Decoder
from adaswitch_lib.generation.static import StaticDecoder
from adaswitch_lib.rollout import Source


@dataclass
class Group:
    """Rows that are written together, and what the two models remember of them."""

    rows: Tensor
    decoders: dict[Source, Decoder | StaticDecoder]

    def select(self, keep: Tensor, drop: Tensor, models: Collection[Source]) -> Group:
        """The rows where `keep` is true, less the last `drop[row]` tokens that the decoders were fed, for these models."""
        cut = bool(drop[keep].any())
        if keep.all() and not cut:
            return self
        index = keep.nonzero()[:, 0]
        decoders = {who: self.decoders[who].select(index, drop[index] if cut else None) for who in models}
        return Group(self.rows[index], decoders)


@dataclass(frozen=True)
class Block:
    """What the writer has drafted and the other model has scored, before a policy judges it.

    Attributes:
        rows: which rows of the batch, shape [rows].
        positions: of the drafted tokens in their completions, shape [rows new].
        tokens: the draft, shape [rows new].
        real: false after EOS and past the last token allowed, shape [rows new].
        logits: of each model, from which the tokens were or could have been chosen, [rows new vocab].
    """

    rows: Tensor
    positions: Tensor
    tokens: Tensor
    real: Tensor
    logits: dict[Source, Tensor]
