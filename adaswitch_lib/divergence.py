"""Token-level divergences between two next-token distributions.

Every function takes logits, teacher first, shape [… vocab], and returns nats, shape […]. Sums run
over the full vocabulary in float32, whatever the logits' type. An id to which a model gives a
logit of -inf has probability 0 and contributes 0 where the weighting distribution is 0 (0 · ∞ = 0).

Definitions: forward and reverse KL; generalised JSD as in GKD (arXiv 2306.13649, Eq. 1); skewed KL
as in DistiLLM (arXiv 2402.03898).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def forward_kl(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(p_T ‖ p_S) = Σ p_T (log p_T − log p_S).

    Args:
        teacher_logits, student_logits: shape [… vocab], any float type.

    Returns:
        Shape […], float32, nats; never negative. +inf where the student rules out an id that the teacher does not.
    """
    return _KL.apply(*_log_probs(teacher_logits, student_logits))


def reverse_kl(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(p_S ‖ p_T) = Σ p_S (log p_S − log p_T). Arguments as in `forward_kl`; +inf where the teacher rules out an id that the
    student does not."""
    log_p, log_q = _log_probs(teacher_logits, student_logits)
    return _KL.apply(log_q, log_p)


def jensen_shannon(teacher_logits: Tensor, student_logits: Tensor, beta: float = 0.5) -> Tensor:
    """β·KL(p_T ‖ m) + (1−β)·KL(p_S ‖ m) with m = β·p_T + (1−β)·p_S.

    β lies inside (0, 1). At the ends the formula is 0 for all models; what some libraries return
    there instead are other divergences, which have names of their own here.

    Raises:
        ValueError: if β is 0 or 1 or lies outside.
    """
    if not 0 < beta < 1:
        raise ValueError(
            f"beta must lie inside (0, 1), got {beta}: at the ends the Jensen-Shannon divergence is 0 for all "
            "models. For KL(teacher ‖ student) use forward_kl, for KL(student ‖ teacher) reverse_kl."
        )
    log_p, log_q = _log_probs(teacher_logits, student_logits)
    mixture = _log_mixture(log_p, log_q, beta)
    return beta * _KL.apply(log_p, mixture) + (1 - beta) * _KL.apply(log_q, mixture)


def skewed_forward_kl(teacher_logits: Tensor, student_logits: Tensor, alpha: float = 0.1) -> Tensor:
    """KL(p_T ‖ α·p_T + (1−α)·p_S). α = 0 is `forward_kl`; α lies in [0, 1)."""
    _check_alpha(alpha)
    log_p, log_q = _log_probs(teacher_logits, student_logits)
    return _KL.apply(log_p, _log_mixture(log_p, log_q, alpha))


def skewed_reverse_kl(teacher_logits: Tensor, student_logits: Tensor, alpha: float = 0.1) -> Tensor:
    """KL(p_S ‖ (1−α)·p_T + α·p_S). α = 0 is `reverse_kl`; α lies in [0, 1)."""
    _check_alpha(alpha)
    log_p, log_q = _log_probs(teacher_logits, student_logits)
    return _KL.apply(log_q, _log_mixture(log_q, log_p, alpha))


def total_variation(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """½ Σ |p_T − p_S|, between 0 and 1 (not in nats)."""
    _check_vocabularies(teacher_logits, student_logits)
    return 0.5 * (teacher_logits.float().softmax(-1) - student_logits.float().softmax(-1)).abs().sum(-1)


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    function.__name__: function
    for function in (forward_kl, reverse_kl, jensen_shannon, skewed_forward_kl, skewed_reverse_kl, total_variation)
}


LARGEST = {"jensen_shannon": math.log(2), "total_variation": 1.0}
"""Of the divergences that have an upper bound for all pairs of distributions."""

RESOLUTION = {torch.bfloat16: 3e-2, torch.float16: 5e-4, torch.float32: 1e-9}
"""KL [nats] below which two distributions of one model may differ by rounding alone, by the type of its logits. Measured: a model
against itself, token by token against in one pass, was up to 8e-3 nats apart in bfloat16 and 7e-11 in float32 (SmolLM2-135M)."""


def resolution(divergence: str, dtype: torch.dtype) -> float:
    """The value of this divergence below which it may be rounding alone; for total variation by Pinsker's bound, √(KL / 2)."""
    kl = RESOLUTION.get(dtype, 0.0)
    return math.sqrt(kl / 2) if divergence == "total_variation" else kl


def divergence_function(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The function of that name.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    if name not in DIVERGENCES:
        raise ValueError(f"unknown divergence {name!r}: use one of {', '.join(DIVERGENCES)}.")
    return DIVERGENCES[name]


class _KL(torch.autograd.Function):
    """KL(p ‖ q) from log-probabilities, shape [… vocab] -> […].

    Summed as Σ p (expm1(y) − y), where y = log q − log p. That is −Σ p y, since p and q both sum to 1; but no term is negative
    and nothing cancels where p is close to q. Where p vanishes, the term is q. The gradients are those of −Σ p y, less what the
    softmax before takes away.
    """

    VANISHES = 1e-30

    @staticmethod
    def forward(ctx, log_p: Tensor, log_q: Tensor) -> Tensor:
        p, y = log_p.exp(), log_q - log_p
        terms = torch.expm1(y).sub_(y).mul_(p)
        # to look whether it is needed takes a twentieth of the work; on other devices it would mean to wait for them
        if p.device.type != "cpu" or (p.numel() and p.amin() < _KL.VANISHES):
            terms = torch.where(p < _KL.VANISHES, log_q.exp(), terms)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(p, *([y] if ctx.needs_input_grad[0] else []))
        return terms.sum(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor) -> tuple[Tensor | None, Tensor | None]:
        p, *y = ctx.saved_tensors
        of_q = p * -upstream[..., None]
        return (of_q * y[0]).masked_fill_(p < _KL.VANISHES, 0.0) if y else None, of_q


def _log_probs(teacher_logits: Tensor, student_logits: Tensor) -> tuple[Tensor, Tensor]:
    _check_vocabularies(teacher_logits, student_logits)
    return teacher_logits.float().log_softmax(-1), student_logits.float().log_softmax(-1)


def _log_mixture(log_p: Tensor, log_q: Tensor, weight: float) -> Tensor:
    """log(weight·p + (1−weight)·q)."""
    if weight == 0:
        return log_q
    # logaddexp(-inf, -inf) has no gradient; ids that both rule out carry no weight in any sum over the mixture
    least = torch.finfo(log_p.dtype).min / 4
    return torch.logaddexp(log_p.clamp(min=least) + math.log(weight), log_q.clamp(min=least) + math.log1p(-weight))


def _check_vocabularies(teacher_logits: Tensor, student_logits: Tensor) -> None:
    if teacher_logits.shape[-1] != student_logits.shape[-1]:
        raise ValueError(
            f"the teacher scores {teacher_logits.shape[-1]} ids and the student {student_logits.shape[-1]}: a "
            "divergence needs one vocabulary. See adaswitch_lib.models.check_shared_vocabulary."
        )


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha must lie in [0, 1), got {alpha}: at 1 the skewed divergence is 0 for all models.")
