"""A causal LM with a key-value cache that rows can leave, be cut from and be joined to.

Layout: a row's tokens stand together at the right end of the cache, with padding on their left,
as in a left-padded prompt. Cutting tokens off a row therefore moves the row to the right.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer


def score(
    model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor,
    keep: int,
    vocab_size: int | None,
    last_position: int | None = None,
    **more: Any,
) -> Tensor:
    """Logits after each of the last `keep` tokens, over the first `vocab_size` ids, shape [rows keep vocab].

    Args:
        ids: shape [rows new]; of a text that is in a cache already, only what is new.
        mask: 1 on real tokens, shape [rows all]: of what is in the cache, too. Padding only before a row's first token.
        last_position: that a table of positions has a place for.
        more: further arguments of the model's forward.
    """
    position_ids = (mask.cumsum(-1) - 1).clamp(min=0, max=last_position)[:, -ids.shape[1] :]
    output = model(input_ids=ids, attention_mask=mask, position_ids=position_ids, logits_to_keep=keep, **more)
    return output.logits[:, -keep:, :vocab_size].to(ids.device)  # a model may be spread over several devices


def no_router_logits(model: PreTrainedModel) -> dict[str, bool]:
    """Arguments by which a mixture of experts gives no router logits: the loss that it makes of them does not know our padding."""
    config = getattr(model, "module", model).config.get_text_config(decoder=True)  # DDP has no config of its own
    return {"output_router_logits": False} if getattr(config, "output_router_logits", False) else {}


class Decoder:
    """Feeds tokens to `model` and returns its next-token logits.

    Args:
        model: a causal LM whose memory of the past is attention keys and values.
        vocab_size: how many ids, from 0, are scored.
        mask: 1 on the real tokens fed so far, shape [rows fed]; of a new decoder [rows 0].
        unseen: how many of the last tokens of each row have not been fed yet; 1 after every `feed`,
            since nobody feeds a token before it has to choose the next.

    Attributes:
        whole_blocks: whether a block is drafted to its end, even behind the ends of all rows.
    """

    whole_blocks = False

    def __init__(self, model: PreTrainedModel, vocab_size: int, mask: Tensor, unseen: int):
        self.model = model
        self.vocab_size = vocab_size
        self.mask = mask
        self.unseen = unseen
        limit = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        # drafts behind the last token allowed are thrown away, but a table of positions has no place for them
        self.last_position = limit and limit - 1
        self.cache_name = cache_argument(model)
        self.more = {"use_cache": True} | no_router_logits(model)
        # the same kind of layer throughout: those of a sliding window must keep what a cut may uncover
        self.cache = Cache(layer_class_to_replicate=_Layer)

    def feed(self, ids: Tensor, mask: Tensor, keep: int) -> Tensor:
        """Logits after each of the last `keep` of the new tokens, shape [rows keep vocab].

        Args:
            ids: new tokens, shape [rows new].
            mask: 1 on real tokens, shape [rows new]; padding only before a row's first token.
        """
        self.mask = torch.cat([self.mask, mask], dim=1)
        self.unseen = 1
        more = self.more | {self.cache_name: self.cache}
        return score(self.model, ids, self.mask, keep, self.vocab_size, self.last_position, **more)

    def select(self, rows: Tensor, drop: Tensor | None = None) -> Decoder:
        """A decoder that holds copies of these rows, less the last `drop[row]` tokens of each."""
        mask = self.mask[rows]
        if drop is None:
            index = None
        else:
            column = torch.arange(mask.shape[1], device=mask.device)
            mask = mask.masked_fill(column >= (mask.shape[1] - drop)[:, None], 0)
            width = int(mask.sum(-1).max()) if mask.numel() else 0
            index = column[mask.shape[1] - width :] - drop[:, None]  # [rows width]
            mask = mask.gather(1, index.clamp(min=0)) * (index >= 0)
            index = index.clamp(min=0)
        return self._with(mask, [layer.select(rows, index) for layer in self.cache.layers])

    @staticmethod
    def join(decoders: Sequence[Decoder]) -> Decoder:
        """One decoder with the rows of all, one after the other, padded on the left to one width."""
        if len(decoders) == 1:
            return decoders[0]
        width = max(decoder.mask.shape[1] for decoder in decoders)
        mask = torch.cat([_pad_left(decoder.mask, width, dim=1) for decoder in decoders])
        layers = zip(*(decoder.cache.layers for decoder in decoders), strict=True)
        return decoders[0]._with(mask, [_Layer.join(same, width) for same in layers])

    def _with(self, mask: Tensor, layers: list[_Layer]) -> Decoder:
        other = copy(self)
        other.mask, other.cache = mask, Cache(layer_class_to_replicate=_Layer)
        other.cache.layers = layers
        return other


class _Layer(DynamicLayer):
    """Keys and values in buffers that grow by half when they are full, so that a new token rarely copies the old ones."""

    def __init__(self):
        super().__init__()
        self.length = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        start, self.length = self.length, self.length + key_states.shape[-2]
        if not self.is_initialized or self.length > self.keys.shape[-2]:
            capacity = self.length + self.length // 2
            self.keys = _enlarged(self.keys, key_states, start, capacity)
            self.values = _enlarged(self.values, value_states, start, capacity)
            self.is_initialized = True
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_seq_length(self) -> int:
        return self.length

    def select(self, rows: Tensor, index: Tensor | None) -> _Layer:
        def pick(old: Tensor) -> Tensor:
            old = old[rows.to(old.device), :, : self.length]
            if index is None:
                return old
            return old.gather(2, index.to(old.device)[:, None, :, None].expand(-1, old.shape[1], -1, old.shape[3]))

        return self._filled(pick(self.keys), pick(self.values))

    @staticmethod
    def join(layers: Sequence[_Layer], width: int) -> _Layer:
        keys = torch.cat([_pad_left(layer.keys[:, :, : layer.length], width, dim=2) for layer in layers])
        values = torch.cat([_pad_left(layer.values[:, :, : layer.length], width, dim=2) for layer in layers])
        return layers[0]._filled(keys, values)

    def _filled(self, keys: Tensor, values: Tensor) -> _Layer:
        new = _Layer()
        new.update(keys, values)
        return new


def cache_argument(model: PreTrainedModel) -> str:
    """The name by which this model's forward takes its key-value cache: "cache" since transformers 5.24, "past_key_values" before.

    Raises:
        ValueError: for a model without a cache.
    """
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # of a peft model
    known = inspect.signature(base.forward).parameters
    for name in ("cache", "past_key_values"):
        if name in known:
            return name
    raise ValueError(f"{type(base).__name__} has no key-value cache, which generate needs: choose a model that has one.")


def _enlarged(old: Tensor | None, like: Tensor, length: int, capacity: int) -> Tensor:
    new = like.new_empty(*like.shape[:2], capacity, like.shape[3])
    if old is not None:
        new[:, :, :length] = old[:, :, :length]
    return new


def _pad_left(tensor: Tensor, width: int, dim: int) -> Tensor:
    shape = list(tensor.shape)
    shape[dim] = width - shape[dim]
    return torch.cat([tensor.new_zeros(shape), tensor], dim=dim)
