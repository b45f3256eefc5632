"""The switching rule of AdaSwitch (arXiv 2510.07842, v1), on plain tensors.

The student writes, and before each token i the divergence d_i between the two next-token
distributions is compared with a multiple of its own recent mean::

    d̄_i = mean(d_{i-L+1}, …, d_i)          moving_average
    τ_i = K · d̄_{i-1}                      switch_threshold
    s   = the first i with d_i > τ_i        first_switch

From token s on, s included, the teacher writes. d̄_{i-1} does not contain d_i.

The paper gives K · d̄_{i-1} and the average over the last L values. It leaves open L, what to do
before L values exist, and what to do where d̄ is close to zero: `window`, `min_history` and `floor`
are this project's answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor


@dataclass(frozen=True)
class SwitchRule:
    """When the teacher takes over.

    Args:
        multiplier: K, the number of times d_i must exceed its recent mean. 3 is reported of the paper.
        window: L, how many recent values the mean runs over [tokens]. Our choice.
        min_history: how many values must exist before the rule may trip [tokens]. Our choice.
            With 0 the very first token can trip it: the mean of no values counts as 0.
        floor: the least threshold [nats]. Our choice; 0 is the rule as the paper states it.

    Raises:
        ValueError: if a value lies outside its range.
    """

    multiplier: float = 3.0
    window: int = 8
    min_history: int = 4
    floor: float = 0.0

    def __post_init__(self):
        if not self.multiplier > 0:  # also catches NaN
            raise ValueError(f"multiplier (K) must be greater than 0, got {self.multiplier}. Use 3, or math.inf to never switch.")
        _check_window(self.window)
        if not (isinstance(self.min_history, Integral) and self.min_history >= 0):
            raise ValueError(f"min_history must be a whole number of tokens, 0 or more, got {self.min_history}.")
        if not 0 <= self.floor < math.inf:
            raise ValueError(f"floor must be a finite number of nats, 0 or more, got {self.floor}.")


def moving_average(divergence: Tensor, window: int, mask: Tensor | None = None) -> Tensor:
    """d̄_i, the mean of the last `window` values up to and with i.

    Where fewer than `window` values exist the mean runs over those that do.

    >>> moving_average(torch.tensor([[1.0, 2.0, 3.0, 6.0, 0.0]]), window=2)
    tensor([[1.0000, 1.5000, 2.5000, 4.5000, 3.0000]])

    Args:
        divergence: d_i, shape [batch pos], nats.
        window: L, in tokens.
        mask: 1 on real tokens, shape [batch pos]; real tokens stand together, with padding on
            either side. Padding never enters a mean. Default: all are real.

    Returns:
        Shape [batch pos], nats; 0 where no value exists yet.
    """
    _check_window(window)
    real = torch.ones_like(divergence, dtype=torch.bool) if mask is None else mask.bool()
    count = _last(real.to(divergence.dtype), window).sum(-1)
    total = _last(divergence.masked_fill(~real, 0.0), window).sum(-1)
    return total / count.clamp(min=1)


def switch_threshold(divergence: Tensor, rule: SwitchRule, mask: Tensor | None = None) -> Tensor:
    """τ_i = max(K · d̄_{i-1}, floor), which d_i must exceed for the teacher to take over.

    >>> d = torch.tensor([[1.0, 2.0, 3.0, 6.0, 9.0]])
    >>> switch_threshold(d, SwitchRule(multiplier=2.0, window=2, min_history=1))
    tensor([[inf, 2., 3., 5., 9.]])

    Args:
        divergence, mask: as in `moving_average`.
        rule: K, L, min_history and floor.

    Returns:
        Shape [batch pos], nats; +inf while fewer than `min_history` values precede token i.
    """
    real = torch.ones_like(divergence, dtype=torch.bool) if mask is None else mask.bool()
    before = torch.nn.functional.pad(moving_average(divergence, rule.window, real), (1, 0))[..., :-1]
    if math.isfinite(rule.multiplier):
        threshold = (rule.multiplier * before).clamp(min=rule.floor)
    else:  # ∞ · 0 is not a number, and K = ∞ means: never
        threshold = torch.full_like(before, math.inf)
    history = real.long().cumsum(-1) - real.long()
    return threshold.masked_fill(history < rule.min_history, math.inf)


def first_switch(divergence: Tensor, mask: Tensor, rule: SwitchRule) -> Tensor:
    """The first real position with d_i > τ_i, where the teacher takes over.

    >>> d = torch.tensor([[1.0, 1.0, 2.0, 5.0, 1.0]])
    >>> switch_threshold(d, SwitchRule(multiplier=3.0, window=2, min_history=1))
    tensor([[    inf,  3.0000,  3.0000,  4.5000, 10.5000]])
    >>> first_switch(d, torch.ones_like(d), SwitchRule(multiplier=3.0, window=2, min_history=1))
    tensor([3])

    Args:
        divergence: d_i, shape [batch pos], nats.
        mask: 1 on real tokens, shape [batch pos].
        rule: K, L, min_history and floor.

    Returns:
        Shape [batch], long; -1 where the rule never trips.
    """
    real = mask.bool()
    trips = (divergence > switch_threshold(divergence, rule, real)) & real
    return torch.where(trips.any(-1), trips.long().argmax(-1), -1)


def _last(values: Tensor, window: int) -> Tensor:
    """The last `window` values up to and with each position, zeros before the first: [… pos] -> [… pos window]."""
    return torch.nn.functional.pad(values, (window - 1, 0)).unfold(-1, window, 1)


def _check_window(window: int) -> None:
    if not (isinstance(window, Integral) and window >= 1):
        raise ValueError(f"window (L) must be a whole number of tokens, 1 or more, got {window}.")
