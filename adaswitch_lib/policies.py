"""The policies: who writes which token of a training sequence.

A policy is a few lines over `Session.write`. To add one, subclass `Policy` and say in `write` which
model drafts and, by a judge, which tokens of the draft the teacher takes.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adaswitch_lib.divergence import LARGEST, divergence_function
from adaswitch_lib.generation import Policy
from adaswitch_lib.generation.block import Block
from adaswitch_lib.generation.request import check_noise
from adaswitch_lib.generation.session import Judge, Session
from adaswitch_lib.rollout import Source
from adaswitch_lib.switching import SwitchRule, first_switch, switch_threshold


@dataclass(frozen=True)
class OnPolicy(Policy):
    """The student writes everything."""

    def write(self, session: Session) -> None:
        session.write(session.start(), Source.STUDENT)


@dataclass(frozen=True)
class OffPolicy(Policy):
    """The teacher writes everything."""

    def write(self, session: Session) -> None:
        session.switch_index[:] = 0
        session.write(session.start(), Source.TEACHER)


@dataclass(frozen=True)
class NoisyTeacher(OffPolicy):
    """DART (arXiv 1703.09327): the teacher writes, and of its tokens a share is replaced by a random one, EOS excepted, so that the
    student sees how the teacher recovers.

    Args:
        noise: that share; as large as the student's own slips are expected to be.
    """

    noise: float = 0.05

    def __post_init__(self):
        check_noise("noise", self.noise)

    def write(self, session: Session) -> None:
        session.noise[Source.TEACHER] = self.noise
        super().write(session)


@dataclass(frozen=True)
class AdaSwitch(Policy):
    """The student writes until d_i > τ_i, then the teacher writes the rest (the paper, Figure 2).

    Args:
        rule: when to switch.
        divergence: name of the d_i that the rule looks at.
    """

    rule: SwitchRule = SwitchRule()
    divergence: str = "forward_kl"

    def __post_init__(self):
        divergence_function(self.divergence)
        if self.rule.floor >= (largest := LARGEST.get(self.divergence, math.inf)):
            raise ValueError(f"{self.divergence} is at most {largest:.3f}: with a floor of {self.rule.floor} no row ever switches.")

    def write(self, session: Session) -> None:
        explore_then_guide(session, self._judge)

    def threshold(self, session: Session) -> Tensor:
        return switch_threshold(session.divergence, self._rule(session))

    def _rule(self, session: Session) -> SwitchRule:
        """The rule, by which no divergence that may be rounding is a jump."""
        return replace(self.rule, floor=max(self.rule.floor, session.resolution))

    def _judge(self, session: Session, block: Block) -> Tensor:
        written = session.real()[block.rows]
        written.scatter_(1, block.positions, block.real)
        switch = first_switch(session.divergence[block.rows], written, self._rule(session))
        return block.positions == switch[:, None]


@dataclass(frozen=True)
class StopAtSwitch(AdaSwitch):
    """AdaSwitch's student prefix alone: the row ends before the token at which the rule trips, without EOS.

    A control: does it help to drop the student's bad suffix, or must the teacher write a better one?
    """

    def write(self, session: Session) -> None:
        session.write(session.start(), Source.STUDENT, self._judge, hand_over=True)
        session.length = torch.where(session.switch_index >= 0, session.switch_index, session.length)


@dataclass(frozen=True)
class RandomSwitch(AdaSwitch):
    """The switch positions that the rule finds in this batch, permuted to other rows.

    A control: the same rate and the same positions as AdaSwitch, but not where the models disagree.
    Rows depend on the others of their batch here, and on nothing else. A position goes only to a row
    whose student text reaches it, so that none is lost; with one row it stays where it was.
    """

    def threshold(self, session: Session) -> None:
        """None: the positions are permuted, and not where d_i exceeds anything."""

    def write(self, session: Session) -> None:
        scout = Session(replace(session.request, record_divergence=True, keep_teacher_logits=False), self.divergence)
        scout.write(scout.start(), Source.STUDENT)
        switches = first_switch(scout.divergence, scout.real(), self._rule(scout))
        permuted = _permute(switches.tolist(), scout.length.tolist(), seed=sum(map(int, session.request.row_seeds)))
        explore_then_guide(session, _at(torch.tensor(permuted, device=switches.device)))


@dataclass(frozen=True)
class FixedSwitch(Policy):
    """The student writes `fraction` of the tokens allowed (`max_new_tokens`), rounded down, then the teacher. A control."""

    fraction: float = 0.5

    def __post_init__(self):
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"fraction must lie between 0 and 1, got {self.fraction}.")

    def write(self, session: Session) -> None:
        position = math.floor(self.fraction * session.request.max_new_tokens + 1e-9)  # 0.29 · 100 is 28.999…
        explore_then_guide(session, _at(torch.full_like(session.switch_index, position)))


@dataclass(frozen=True)
class SpeculativeKD(Policy):
    """Speculative KD (arXiv 2410.11325): a student's token outside the teacher's `top_k` likeliest is redrawn from the teacher.

    The token tested is the one that would be kept. Its rank is taken on the teacher's raw logits, and
    a tie with the K-th counts as inside; a token that the teacher rules out never does.
    """

    top_k: int = 25

    def __post_init__(self):
        if self.top_k < 1:
            raise ValueError(f"top_k must be 1 or more, got {self.top_k}.")

    def write(self, session: Session) -> None:
        session.write(session.start(), Source.STUDENT, self._judge)

    def _judge(self, session: Session, block: Block) -> Tensor:
        logits = block.logits[Source.TEACHER]
        own = logits.gather(-1, block.tokens[..., None])
        return ((logits > own).sum(-1) >= self.top_k) | (own[..., 0] == -torch.inf)


@dataclass(frozen=True)
class PerTokenSwitch(Policy):
    """SWITCH (arXiv 2410.19503): the teacher writes token i where JSD > initial · exp(−decay · i), else the student.

    Args:
        initial: the threshold at the first token [nats]; JSD is at most ln 2.
        decay: its rate of decay [1 / token]: the teacher steps in more often late in a sequence.
    """

    initial: float = 0.3
    decay: float = 0.02
    divergence: str = "jensen_shannon"

    def __post_init__(self):
        if not (self.initial >= 0 and self.decay >= 0):
            raise ValueError(f"initial and decay must be 0 or more, got {self.initial} and {self.decay}.")

    def write(self, session: Session) -> None:
        session.write(session.start(), Source.STUDENT, self._judge)

    def threshold(self, session: Session) -> Tensor:
        position = torch.arange(session.divergence.shape[-1], device=session.divergence.device)
        return (self.initial * torch.exp(-self.decay * position)).clamp(min=session.resolution).expand_as(session.divergence)

    def _judge(self, session: Session, block: Block) -> Tensor:
        return (session.divergence > self.threshold(session))[block.rows].gather(1, block.positions)


def explore_then_guide(session: Session, judge: Judge) -> None:
    """The student writes until the teacher takes a token, which `judge` says; from there on the teacher writes."""
    switched = session.write(session.start(), Source.STUDENT, judge, hand_over=True)
    session.write(switched, Source.TEACHER)


def _at(positions: Tensor) -> Judge:
    """Has the teacher take the token at `positions[row]` of every row, shape [batch]; -1: none."""
    return lambda session, block: block.positions == positions[block.rows][:, None]


def _permute(positions: list[int], lengths: list[int], seed: int) -> list[int]:
    """Give every position to a row, not its own where another is free, whose length exceeds it; -1 is no position.

    The latest first: a row that a position fits also fits all earlier ones, so that each finds a row.
    """
    generator = random.Random(seed)
    permuted = [-1] * len(positions)
    free = set(range(len(positions)))
    for owner in sorted((row for row in free if positions[row] >= 0), key=lambda row: -positions[row]):
        fits = [row for row in sorted(free) if lengths[row] > positions[owner]]
        row = generator.choice([row for row in fits if row != owner] or fits)
        permuted[row] = positions[owner]
        free.remove(row)
    return permuted
