"""Which models `generate` works with. The model itself is asked, once, on a toy text: lists of names do not know tomorrow's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adaswitch_lib.generation.decoder import no_router_logits, score
from adaswitch_lib.generation.static import is_static, new_decoder

_supported: dict[bool, WeakSet[PreTrainedModel]] = {False: WeakSet(), True: WeakSet()}
"""By whether they write within `static_decoding`."""


def check_is_whole(model: PreTrainedModel, who: str) -> None:
    """Raise ValueError for what is no model, and for one whose weights this process has only a part of."""
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"the {who} must be a model, got {model!r}: load it first, by load_pair or from_pretrained.")
    names = [type(module).__name__ for module in model.modules()]
    if not hasattr(model, "config") or hasattr(model, "module"):
        raise ValueError(f"the {who} is wrapped in {names[0]}: pass the model in it, as accelerator.unwrap_model gives it.")
    if "FullyShardedDataParallel" in names or any(
        hasattr(weight, "device_mesh") or weight.numel() == 0 for weight in model.parameters()
    ):
        raise ValueError(
            f"the weights of the {who} are spread over processes (FSDP, ZeRO-3 or tensor parallel), which would wait for each "
            "other for ever, since each writes texts of other lengths: gather them into a model of each process first."
        )


def check_supported(model: PreTrainedModel, vocab_size: int, device: torch.device) -> None:
    """Raise ValueError for a model that scores a text otherwise token by token, padded and cut back, than in one plain pass."""
    model = getattr(model, "_orig_mod", model)  # of torch.compile, which would compile for the toy text
    if model in _supported[is_static()]:
        return
    try:
        with eval_mode(model), torch.no_grad(), torch.autocast(device.type, enabled=False):
            error = _cache_error(model, vocab_size, device)
    except Exception as exception:
        raise ValueError(
            _refusal(model, f"fails with a cache and padding ({type(exception).__name__}: {exception})")
        ) from exception
    # rounding gave up to 6e-2 in bfloat16 and 7e-6 in float32, a wrong mask or position 0.3 and more
    if error > max(0.03, 32 * torch.finfo(model.dtype).eps):
        raise ValueError(_refusal(model, "scores a text otherwise token by token, with a cache and padding, than in one pass"))
    if error == error:  # weights that give NaN are found where texts are written
        _supported[is_static()].add(model)


@contextmanager
def eval_mode(*models: PreTrainedModel) -> Iterator[None]:
    """Without dropout; every module is left in the mode it came in."""
    training = [module for model in models for module in model.modules() if module.training]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _refusal(model: PreTrainedModel, reason: str) -> str:
    return (
        f"{type(model).__name__} {reason}. generate works with decoders that keep the past as attention keys and values alone "
        "(Llama, Qwen, Gemma, GPT-2, Mistral, …): not with recurrent states or caches of another kind, encoders, decoders of "
        "encoder-decoder models, or adapters of the prompt (use LoRA)."
    )


def _cache_error(model: PreTrainedModel, vocab_size: int, device: torch.device) -> float:
    """How far the next-token distributions of padded and cached passes are from those of a plain one, in units of how far those of
    neighbouring tokens are apart: total variation, the median over the tokens of a pass, the largest of all passes."""
    pad, prompt, extra, rest = 6, 12, 2, 6
    length = prompt + extra + rest
    long, short = (torch.arange(3, 3 + 2 * length, device=device) % vocab_size).view(2, length)
    plain = _distributions(model(input_ids=torch.stack([long, short]), use_cache=False).logits[..., :vocab_size])
    apart = _apart(plain[:, 1:], plain[:, :-1]).mean()

    mask = torch.ones_like(plain[..., 0], dtype=torch.long)
    mask[1, :pad] = 0
    more = {"use_cache": False} | no_router_logits(model)
    padded = _distributions(score(model, torch.stack([long, short.roll(pad)]), mask, length, vocab_size, **more))

    decoder = new_decoder("asked", model, vocab_size, mask[:, :prompt], extra + rest)
    first = decoder.feed(torch.stack([long[:prompt], short.roll(pad)[:prompt]]), mask[:, :prompt], keep=prompt)
    # the second row gets tokens that are not its own, which are cut off again
    draft = decoder.feed(torch.stack([long[prompt:-rest], short[-extra:]]), mask[:, -extra:], keep=extra)
    decoder = decoder.select(torch.arange(2, device=device), drop=torch.tensor([0, extra], device=device))
    own = prompt - pad
    last = decoder.feed(torch.stack([long[-rest:], short[own : own + rest]]), mask[:, -rest:], keep=rest)
    first, draft, last = map(_distributions, (first, draft, last))
    errors = [
        _apart(padded[0], plain[0]),
        _apart(padded[1, pad:], plain[1, :-pad]),
        _apart(torch.cat([first[0], draft[0], last[0]]), plain[0]),
        _apart(first[1, pad:], plain[1, :own]),
        _apart(last[1], plain[1, own : own + rest]),
    ]
    return float(torch.stack([error.median() for error in errors]).max() / apart)


def _distributions(logits: Tensor) -> Tensor:
    return logits.float().softmax(-1)


def _apart(p: Tensor, q: Tensor) -> Tensor:
    return (p - q).abs().sum(-1) / 2
