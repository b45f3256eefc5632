"""Follow a path along a line of places, at most two places a step.

A prompt is a path, h_1 … h_T, and the place h_0 to start from; a completion is one's own place after each step, y_1 … y_T. A slip
takes several steps to mend, so that what is right depends on the text so far. Shapes: `row`, `pos`; all ids are places, but END.
"""

from __future__ import annotations

import torch
from torch import Tensor

PLACES = 16
END = PLACES
"""An id that nobody learns to write: `generate` wants one that ends a text."""

VOCAB = PLACES + 1
LENGTH = 24
"""T, in tokens."""

REACH = 2
"""How many places one can go in a step."""

MEMORY = 8
"""How many of the last tokens the advice looks at."""


def paths(count: int, seed: int) -> Tensor:
    """Prompts, shape [row T+1]: h_1 … h_T, then h_0. The path is a walk of −1, 0 or 1 a step that stops at the ends of the line."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(PLACES, (count,), generator=generator)
    walk = [place]
    for step in torch.randint(-1, 2, (LENGTH, count), generator=generator):
        place = (place + step).clamp(0, PLACES - 1)
        walk.append(place)
    return torch.stack([*walk[1:], walk[0]], dim=1)


def on_the_path(prompts: Tensor) -> Tensor:
    """The clean completion, which is the path itself, shape [row T]."""
    return prompts[:, :LENGTH]


def right_places(prompts: Tensor, text: Tensor) -> Tensor:
    """r_t, the right place given the text before it: from y_{t−1} towards h_t, at most `REACH`. Shape [row T]."""
    return towards(_before(prompts, text), on_the_path(prompts)[:, : text.shape[1]])


def towards(place: Tensor, target: Tensor) -> Tensor:
    """The place one step nearer to the target."""
    return place + (target - place).clamp(-REACH, REACH)


def off_the_path(prompts: Tensor, text: Tensor) -> Tensor:
    """|y_{t−1} − h_t|, how far one is from where one should be next, shape [row T]."""
    return (_before(prompts, text) - on_the_path(prompts)[:, : text.shape[1]]).abs()


def slips(prompts: Tensor, text: Tensor) -> Tensor:
    """k_t, how many of the last `MEMORY` tokens before t are wrong, shape [row T]."""
    wrong = (text != right_places(prompts, text)).long()
    return torch.nn.functional.pad(wrong, (MEMORY, 0)).unfold(1, MEMORY, 1)[:, :-1].sum(-1)


def sharp(right: Tensor) -> Tensor:
    """The next place of one who knows the right one: 0.998 on it, the rest by e^(−distance), and 1e-6 everywhere. [… VOCAB]."""
    distance = (torch.arange(PLACES) - right[..., None]).abs().float()
    others = (-distance).exp().masked_fill(distance == 0, 0)
    places = 0.998 * (distance == 0) + 0.002 * others / others.sum(-1, keepdim=True)
    everywhere = torch.nn.functional.pad(places, (0, VOCAB - PLACES)) + 1e-6
    return everywhere / everywhere.sum(-1, keepdim=True)


def advice(right: Tensor, slips: Tensor, gamma: float) -> Tensor:
    """The advice rule: after k slips, ρ · sharp + (1 − ρ) · uniform with ρ = (1 − γ)^max(k − 1, 0). Shape [… VOCAB].

    One slip costs nothing, each further one a share γ; γ = 0 is advice that never fails.
    """
    known = (1 - gamma) ** (slips - 1).clamp(min=0).float()[..., None]
    uniform = torch.nn.functional.pad(torch.full((PLACES,), 1 / PLACES), (0, VOCAB - PLACES))
    return known * sharp(right) + (1 - known) * uniform


def _before(prompts: Tensor, text: Tensor) -> Tensor:
    """y_{t−1}: where one is, shape [row T]."""
    return torch.cat([prompts[:, LENGTH:], text[:, :-1]], dim=1)
