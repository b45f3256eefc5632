"""Sampling rows from their own seeds.

Each row draws its own uniforms, one a position for each writer, and turns them into tokens by
inverse CDF. So what a row says depends on its seed and its prompt alone: not on the rows beside it,
the batch size, the padding or the block size; up to rounding, which decides between neighbours of
probability 1e-7 and less.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def row_uniforms(row_seeds: Sequence[int], num_positions: int) -> Tensor:
    """Uniforms in [0, 1), shape [batch pos writer], float64, for two writers.

    A row's values depend on its seed alone, and those of its first positions not on `num_positions`.
    The global random state is neither read nor changed.
    """
    generator = torch.Generator(device="cpu")  # whatever the default device is

    def uniforms(seed: int) -> Tensor:
        return torch.rand(num_positions, 2, generator=generator.manual_seed(seed), dtype=torch.float64, device="cpu")

    def of_row(seed: int) -> Tensor:
        high, low = divmod(seed % 2**64, 2**32)  # of a seed torch's generator takes 32 bits
        return (uniforms(low) + uniforms(high ^ 0x9E3779B9)) % 1 if high else uniforms(low)

    return torch.stack([of_row(int(seed)) for seed in row_seeds])


def sample(logits: Tensor, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """One token a row: the first id whose cumulative probability exceeds the row's uniform.

    Args:
        logits: shape [rows vocab]. The distribution is the full softmax of logits / temperature.
        uniforms: shape [rows], in [0, 1).
        temperature: 0 takes the likeliest id, the lowest of equals.

    Returns:
        tokens: shape [rows], long.
        bad: which rows have no distribution (NaN, +inf, or nothing but -inf), shape [rows]; their tokens mean nothing.
    """
    if temperature == 0:
        token = logits.argmax(-1)
        return token, ~logits.gather(-1, token[:, None])[:, 0].isfinite()  # argmax finds a NaN where there is one
    cdf = (logits.float() / temperature).softmax(-1).cumsum(-1)
    total = cdf[:, -1:]
    # Σp is 1 up to rounding: scaling keeps the draw below it, so an id of probability 0 is never taken
    below = torch.minimum(uniforms[:, None].float() * total, total.nextafter(torch.zeros_like(total)))
    token = torch.searchsorted(cdf, below, right=True)[:, 0]
    return token.clamp(max=logits.shape[-1] - 1), total[:, 0].isnan()


def disturbed(tokens: Tensor, uniforms: Tensor, share: float, ids: Tensor) -> Tensor:
    """The tokens, of which a share is replaced by one of `ids`, all alike.

    Args:
        tokens, uniforms: shape [rows]; the uniforms decide both whether and by what.
    """
    at = (uniforms / share * len(ids)).long().clamp(max=len(ids) - 1)
    return torch.where(uniforms < share, ids[at], tokens)
