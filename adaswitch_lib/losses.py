"""Losses over the completion tokens of a batch: Σ token loss / Σ tokens, masked by length.

One convention for all text, whoever wrote it: `completion_logits` shifts once, so that the logits at
position i of a completion are those from which its token i is predicted. Masks come from lengths,
never from token ids, so that an EOS is a target even where it is also the padding id.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adaswitch_lib.divergence import divergence_function
from adaswitch_lib.generation.decoder import no_router_logits, score
from adaswitch_lib.rollout import NonFiniteLogits, Rollout, Source, has_no_distribution

CHUNK_ELEMENTS = 2**18
"""Largest [tokens × vocab] block that a loss holds in float32; 1 MB a tensor, of which it needs about ten."""

GPU_FACTOR = 2**7
"""How many times larger a block is on a GPU, where small ones cost more to launch than to compute; 128 MB a tensor."""


def completion_logits(model: PreTrainedModel, rollout: Rollout) -> Tensor:
    """The model's logits for every completion token, over the rollout's ids, shape [batch pos vocab].

    Position i holds the logits after token i − 1 (after the prompt's last token for i = 0). Gradients
    flow; the model stays in the mode it is in.
    """
    keep = rollout.completion_ids.shape[1] + 1
    more = {"use_cache": False} | no_router_logits(model)
    return score(model, rollout.sequences, rollout.attention_mask, keep, rollout.vocab_size, **more)[:, :-1]


def distillation_loss(
    teacher_logits: Tensor,
    student_logits: Tensor,
    mask: Tensor,
    divergence: str = "forward_kl",
    temperature: float = 1.0,
    num_tokens: int | Tensor | None = None,
) -> Tensor:
    """Token-level distillation: Σ_real D(p_T, p_S) / num_tokens.

    Works in chunks of tokens: besides the gradient, in the student's own type, no more than
    `CHUNK_ELEMENTS` logits are held in float32, on a GPU `GPU_FACTOR` times as many. Gradients flow to the student alone.

    Args:
        teacher_logits, student_logits: shape [batch pos vocab], any float types.
        mask: 1 on real completion tokens, shape [batch pos].
        divergence: a name in `DIVERGENCES`.
        temperature: divides both logits. The loss is not multiplied by its square.
        num_tokens: what to divide by. Default: the real tokens here. With gradient accumulation or
            several processes pass the count of the whole optimiser batch.

    Returns:
        A scalar, float32; nats a token (total variation: no unit). 0 for a batch without real tokens.

    Raises:
        ValueError: for shapes that do not fit, an unknown divergence, or a temperature that is not above 0.
        NonFiniteLogits: where the teacher gives NaN. A student that does has a loss of NaN.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature}.")
    if teacher_logits is None:
        raise ValueError("no teacher logits: generate with keep_teacher_logits=True, or pass completion_logits(teacher, rollout).")
    if teacher_logits.shape != student_logits.shape or teacher_logits.shape[:-1] != mask.shape:
        raise ValueError(
            f"logits must be [batch pos vocab] and the mask [batch pos], got teacher {list(teacher_logits.shape)}, "
            f"student {list(student_logits.shape)}, mask {list(mask.shape)}."
        )
    measure = divergence_function(divergence)
    teacher_logits = teacher_logits.detach()

    def token_loss(student: Tensor, at: tuple[Tensor, ...]) -> Tensor:
        return measure(teacher_logits[at].float() / temperature, student.float() / temperature)

    loss = _mean_over_tokens(token_loss, student_logits, mask, num_tokens)
    if loss.isnan() and has_no_distribution(teacher_logits[mask.bool()]):
        raise NonFiniteLogits(Source.TEACHER)
    return loss


def nll_loss(student_logits: Tensor, completion_ids: Tensor, mask: Tensor, num_tokens: int | Tensor | None = None) -> Tensor:
    """Negative log-likelihood of the completions: −Σ_real log p_S(y_i) / num_tokens, in nats a token.

    Args:
        student_logits: shape [batch pos vocab], as `completion_logits` gives them (already shifted).
        completion_ids, mask: shape [batch pos].
        num_tokens: as in `distillation_loss`.

    Raises:
        ValueError: for shapes that do not fit, and an id below 0 where the mask is 1.
    """
    if student_logits.shape[:-1] != completion_ids.shape or completion_ids.shape != mask.shape:
        raise ValueError(
            f"logits must be [batch pos vocab], ids and mask [batch pos], got {list(student_logits.shape)}, "
            f"{list(completion_ids.shape)} and {list(mask.shape)}."
        )

    if (completion_ids[mask.bool()] < 0).any():
        raise ValueError("ids below 0, as -100, are no targets: set the mask to 0 there.")

    def token_loss(student: Tensor, at: tuple[Tensor, ...]) -> Tensor:
        return torch.nn.functional.cross_entropy(student.float(), completion_ids[at], reduction="none")

    return _mean_over_tokens(token_loss, student_logits, mask, num_tokens)


TokenLoss = Callable[[Tensor, tuple[Tensor, ...]], Tensor]
"""From some tokens' student logits [tokens vocab] and the index of these tokens to their losses [tokens]."""


def _mean_over_tokens(token_loss: TokenLoss, student_logits: Tensor, mask: Tensor, num_tokens: int | Tensor | None) -> Tensor:
    if ((mask != 0) & (mask != 1)).any():
        raise ValueError("the mask must be 0 or 1: it says which tokens count, and is no weight.")
    tokens = mask.nonzero()
    logits = student_logits if torch.is_grad_enabled() else student_logits.detach()
    total = _ChunkedSum.apply(logits, tokens, token_loss)
    return total / torch.as_tensor(len(tokens) if num_tokens is None else num_tokens).clamp(min=1)


class _ChunkedSum(torch.autograd.Function):
    """Σ token_loss over the given tokens; the gradient is made chunk by chunk on the way forward."""

    @staticmethod
    def forward(ctx, logits: Tensor, tokens: Tensor, token_loss: TokenLoss) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=logits.device)
        gradient = torch.zeros_like(logits) if ctx.needs_input_grad[0] else None
        elements = CHUNK_ELEMENTS * (1 if logits.device.type == "cpu" else GPU_FACTOR)
        for chunk in tokens.split(max(1, elements // logits.shape[-1])):
            at = chunk.unbind(-1)  # index by token: flattening a slice of the logits would copy it
            student = logits.detach()[at].requires_grad_(gradient is not None)
            with torch.set_grad_enabled(gradient is not None):
                loss = token_loss(student, at).sum()
            total += loss.detach()
            if gradient is not None:
                gradient[at] = torch.autograd.grad(loss, student)[0]
        ctx.gradient = gradient
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None]:
        if ctx.gradient is None:
            raise RuntimeError("this loss can be differentiated once: its gradient is handed over, not kept.")
        gradient, ctx.gradient = ctx.gradient, None  # as large as the logits: scaled in place, never held twice
        return gradient.mul_(upstream), None, None
