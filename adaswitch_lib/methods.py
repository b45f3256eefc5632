"""Every method as a pair: who writes the training sequence × which loss (README has the table)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from adaswitch_lib.divergence import divergence_function
from adaswitch_lib.generation import (
    AdaSwitch,
    FixedSwitch,
    OffPolicy,
    OnPolicy,
    PerTokenSwitch,
    Policy,
    RandomSwitch,
    SpeculativeKD,
    StopAtSwitch,
)


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    Attributes:
        label: its name in tables and figures.
        policy: who writes; None: the data set.
        loss: "nll", or a name in `DIVERGENCES`, teacher first.
        data_share: probability that a row is taken from the data instead, drawn for each row from its seed.
        source: where it comes from.
    """

    label: str
    policy: Policy | None
    loss: str = "forward_kl"
    data_share: float = 0.0
    source: str = "this project"

    def __post_init__(self):
        if self.loss != "nll":
            divergence_function(self.loss)

    def with_settings(self, **settings: Any) -> Method:
        """The same method with another `loss`, or with other settings of its policy (`rule`, `top_k`, …).

        Settings that its policy does not have are left out, so that one set of choices serves all methods.
        An NLL stays an NLL.
        """
        policy = self.policy
        if policy is not None:
            policy = replace(policy, **{name: settings[name] for name in (f.name for f in fields(policy)) if name in settings})
        loss = settings.get("loss", self.loss) if self.loss != "nll" else "nll"
        return replace(self, policy=policy, loss=loss)


METHODS: dict[str, Method] = {
    "sft": Method("SFT", None, loss="nll", source="supervised fine-tuning"),
    "seqkd": Method("SeqKD", OffPolicy(), loss="nll", source="Kim and Rush 2016, arXiv 1606.07947"),
    "kd": Method("KD", None, source="supervised KD; arXiv 2306.13649 with λ = 0"),
    "offpolicy": Method("Off-policy KD", OffPolicy(), source="the off-policy end of AdaSwitch"),
    "onpolicy": Method("On-policy KD", OnPolicy(), source="arXiv 2306.13649 with λ = 1"),
    "gkd": Method("GKD", OnPolicy(), loss="jensen_shannon", data_share=0.5, source="arXiv 2306.13649"),
    "imitkd": Method("ImitKD", OnPolicy(), data_share=0.5, source="arXiv 2009.07253"),
    "skd": Method("SKD", SpeculativeKD(), source="arXiv 2410.11325"),
    "adaswitch": Method("AdaSwitch", AdaSwitch(), source="arXiv 2510.07842"),
    "switch": Method("SWITCH", PerTokenSwitch(), source="arXiv 2410.19503"),
    "random": Method("Random switch", RandomSwitch(), source="control"),
    "stop": Method("Stop at switch", StopAtSwitch(), source="control"),
    "fixed": Method("Fixed switch", FixedSwitch(), source="control"),
}


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}: use one of {', '.join(METHODS)}.")
    return METHODS[name]
