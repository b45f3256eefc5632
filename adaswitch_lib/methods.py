"""Every method as a pair: who writes the training sequence × which loss. To add one, add a line.

No torch at import: figures take labels and styles from here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaswitch_lib.generation import Policy

DATA = None
"""Written by the data set."""


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    Attributes:
        label: its name in tables and figures.
        writer: who writes: a `Policy`, or the name of one in `policies`; `DATA`: the data set.
        loss: "nll", or a name in `DIVERGENCES`, teacher first.
        data_share: probability that a row is taken from the data instead, drawn for each row from its seed.
        style: colour and marker in figures.
        source: where it comes from.
    """

    label: str
    writer: Policy | str | None
    loss: str = "forward_kl"
    data_share: float = 0.0
    style: tuple[str, str] = ("#000000", "o")
    source: str = "this project"

    @property
    def policy(self) -> Policy | None:
        """Who writes; None: the data set."""
        if isinstance(self.writer, str):
            return getattr(import_module("adaswitch_lib.policies"), self.writer)()
        return self.writer

    def with_settings(self, **settings: Any) -> Method:
        """The same method with another `loss`, or with other settings of its policy (`rule`, `top_k`, …).

        Raises:
            ValueError: for a setting that it does not have; the message lists those it has.
        """
        policy, loss = self.policy, settings.pop("loss", self.loss)
        known = [field.name for field in fields(policy)] if policy is not None else []
        if unknown := sorted(settings.keys() - set(known)):
            raise ValueError(f"{self.label} has no setting {', '.join(unknown)}: it has {', '.join(['loss', *known])}.")
        return replace(self, writer=replace(policy, **settings) if settings else self.writer, loss=loss)


METHODS: dict[str, Method] = {
    "sft": Method("SFT", DATA, loss="nll", style=("#56B4E9", "v"), source="supervised fine-tuning"),
    "seqkd": Method("SeqKD", "OffPolicy", loss="nll", style=("#009E73", "^"), source="Kim and Rush 2016, arXiv 1606.07947"),
    "kd": Method("KD", DATA, style=("#E69F00", "s"), source="supervised KD; arXiv 2306.13649 with λ = 0"),
    "offpolicy": Method("Off-policy KD", "OffPolicy", style=("#CC79A7", "<"), source="the off-policy end of AdaSwitch"),
    "onpolicy": Method("On-policy KD", "OnPolicy", style=("#0072B2", "o"), source="arXiv 2306.13649 with λ = 1"),
    "gkd": Method("GKD", "OnPolicy", "jensen_shannon", data_share=0.5, style=("#5D3A9B", "P"), source="arXiv 2306.13649"),
    "imitkd": Method("ImitKD", "OnPolicy", data_share=0.5, style=("#882255", "X"), source="arXiv 2009.07253"),
    "skd": Method("SKD", "SpeculativeKD", style=("#117733", "D"), source="arXiv 2410.11325"),
    "switch": Method("SWITCH", "PerTokenSwitch", style=("#999933", ">"), source="arXiv 2410.19503"),
    "adaswitch": Method("AdaSwitch", "AdaSwitch", style=("#D55E00", "*"), source="arXiv 2510.07842"),
    "random": Method("Permuted switches", "RandomSwitch", style=("#555555", "h"), source="control"),
    "stop": Method("Stop at switch", "StopAtSwitch", style=("#888888", "d"), source="control"),
    "fixed": Method("Fixed switch", "FixedSwitch", style=("#BBBBBB", "p"), source="control"),
}
"""In the order in which tables and figures show them."""


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}: use one of {', '.join(METHODS)}.")
    return METHODS[name]
