"""Weights as a rollout and TRL's loss need them: all of those that FSDP2 has divided, of the head those of the tokenizer's ids."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel
from trl.trainer.utils import maybe_gather_lm_head_ctx

from adaswitch_lib.models import num_scored_ids


@contextmanager
def unsharded(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """All weights of a model that FSDP2 has sharded, without the hooks by which its passes wait for other processes."""
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    hooks = [(part._forward_pre_hooks, part._forward_hooks) for part in parts]
    for part in parts:
        part.unshard()
        part._forward_pre_hooks, part._forward_hooks = OrderedDict(), OrderedDict()
    try:
        yield model
    finally:
        for part, (before, after) in zip(parts, hooks, strict=True):
            part._forward_pre_hooks, part._forward_hooks = before, after
            part.reshard()


@contextmanager
def cut_head(model: PreTrainedModel, num_ids: int) -> Iterator[None]:
    """Where TRL's loss asks for the output embeddings, it gets those of the first `num_ids` ids."""

    def cut(weight: Tensor | None) -> Tensor | None:
        if weight is None or not hasattr(weight, "ds_status"):
            return weight if weight is None else weight[:num_ids]
        with maybe_gather_lm_head_ctx(weight):  # divided by ZeRO-3, and freed when this ends
            rows = weight[:num_ids].clone()
            rows.ds_status = weight.ds_status  # by which TRL sees that it need not gather
        return rows

    whole = model.get_output_embeddings
    if num_scored_ids(model) > num_ids:  # when TRL asks, after the forward pass, FSDP2 has gathered the weights
        model.get_output_embeddings = lambda: SimpleNamespace(weight=cut(whole().weight), bias=cut(whole().bias))
    try:
        yield
    finally:
        vars(model).pop("get_output_embeddings", None)
