"""How figures look: one colour, marker and label for each method, task and writer. No torch, no matplotlib.

Those of methods stand in `METHODS`, those of tasks in `TASKS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from adaswitch_lib.experiments.tasks import TASKS
from adaswitch_lib.methods import METHODS

STYLE = str(Path(__file__).with_name("adaswitch.mplstyle"))


class Look(NamedTuple):
    """Colour, marker and label."""

    colour: str
    marker: str
    label: str


COLOURS = {"student": "#0072B2", "teacher": "#D55E00"}
"""Of the writers: blue and vermilion of the Okabe-Ito palette, told apart by the colour-blind, too."""

REFERENCES = {"teacher": Look("#000000", "_", "teacher"), "initial": Look("#000000", "x", "initial student")}
"""What methods are compared with: the teacher, and the student before distillation."""

DIVERGENCE_LABELS = {
    "forward_kl": "forward KL",
    "reverse_kl": "reverse KL",
    "jensen_shannon": "JSD",
    "total_variation": "TVD",
    "skewed_forward_kl": "skewed KL",
    "skewed_reverse_kl": "skewed reverse KL",
    "nll": "NLL",
}
"""In the order in which they are drawn."""


def look(name: str) -> Look | None:
    """How a method, task or reference is drawn; None for another name."""
    if name in REFERENCES:
        return REFERENCES[name]
    known = METHODS.get(name) or TASKS.get(name)
    return Look(*known.style, known.label) if known else None


def label(name: object) -> str:
    """What a method, task, reference or divergence is called in figures and tables; other names stay as they are."""
    known = look(name) if isinstance(name, str) else None
    return known.label if known else DIVERGENCE_LABELS.get(name, f"{name}")


def floor_label(floor: float) -> str:
    """A floor under the threshold of AdaSwitch's rule [nats]."""
    return f"floor = {floor:g}{' nat' if floor else ''}"


def with_floor(name: str, floor: float) -> str:
    """The label of a method or task with the floor; NaN: there is none to tell."""
    return label(name) if floor != floor else f"{label(name)}, {floor_label(floor)}"


def in_order(names: Iterable[str]) -> list[str]:
    """Each name once, in the order of tables and figures: references, methods, tasks, divergences."""
    order = {name: i for i, name in enumerate([*REFERENCES, *METHODS, *TASKS, *DIVERGENCE_LABELS])}
    return sorted(dict.fromkeys(names), key=lambda name: order.get(name, len(order)))
