"""Which runs the lane has; the plan stands in docs/log.md. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from adaswitch_lib.experiments.table_files import read_table_file
from adaswitch_lib.methods import METHODS, Method

WRITERS: dict[str, Method] = {
    "offpolicy": METHODS["offpolicy"],
    "onpolicy": METHODS["onpolicy"],
    "skd": METHODS["skd"],
    "adaswitch": METHODS["adaswitch"],
    "floor": replace(METHODS["adaswitch"], label="AdaSwitch, floor = 0.5 nat", style=("#E69F00", "*")),
    "random": METHODS["random"],
    "dart": Method("DART", "NoisyTeacher", style=("#332288", "H"), source="arXiv 1703.09327"),
}
"""The methods that are compared, by name."""

TOP_KS = (7, 9, 11)
"""What SKD may have; each γ has the best by validation with the seed `TUNING_SEED`."""

GAMMAS = (0.0, 0.1, 0.3, 0.6, 1.0)
TUNING_SEED = 99
SEEDS = tuple(range(100, 106))
TRACED = SEEDS[0]
"""The seed whose texts are kept to be read."""


@dataclass(frozen=True)
class Cell:
    """A world: how fast advice fails, how often a student's token is blown away, how long the supervised start is [steps]."""

    gamma: float
    gusts: float = 0.05
    sft_steps: int = 180


CHART = tuple(Cell(gamma) for gamma in GAMMAS)
CALM, POOR = Cell(0.3, gusts=0.0), Cell(0.3, sft_steps=80)
CELLS = (*CHART, CALM, POOR)


@dataclass(frozen=True)
class LaneRun:
    """One student: a cell, a method of `WRITERS` and a seed. `top_k` is SKD's; 0 for the others."""

    cell: Cell
    method: str
    seed: int
    top_k: int = 0

    @property
    def id(self) -> str:
        return "-".join(map(str, [*asdict(self.cell).values(), self.method + f"{self.top_k}" * bool(self.top_k), self.seed]))


def methods_of(cell: Cell) -> list[str]:
    """In the cells of the chart all; beside it neither the second floor nor DART."""
    return [name for name in WRITERS if cell in CHART or name not in ("floor", "dart")]


def tuning() -> list[LaneRun]:
    """The runs by which SKD's top k is chosen."""
    return [LaneRun(cell, "skd", TUNING_SEED, k) for cell in CHART for k in TOP_KS]


def best_top_k(runs: pd.DataFrame) -> dict[float, int]:
    """Of each γ the top k with the lowest KL on validation text."""
    tuned = runs[runs.seed == TUNING_SEED]
    best = tuned.loc[tuned.groupby("gamma").validation_kl.idxmin()]
    return dict(zip(best.gamma, best.top_k.astype(int), strict=True))


def planned(seed: int, top_k: dict[float, int]) -> list[LaneRun]:
    """All runs of one seed; SKD has the top k of its γ."""
    return [LaneRun(cell, name, seed, top_k[cell.gamma] if name == "skd" else 0) for cell in CELLS for name in methods_of(cell)]


def finished(results: Path) -> pd.DataFrame:
    """A row a run that is done: its settings, what it learned from, and its scores."""
    file = results / "runs.csv"
    return read_table_file(file) if file.is_file() else pd.DataFrame(columns=["run", "seed", "method"])
