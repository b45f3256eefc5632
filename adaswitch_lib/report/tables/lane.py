"""Tables of the lane."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from adaswitch_lib.experiments.lane.grid import CELLS, WRITERS, Cell
from adaswitch_lib.report import lane
from adaswitch_lib.report.plot_style import label
from adaswitch_lib.report.tables.form import in_words


def lane_scores(folder: Path) -> pd.DataFrame:
    """KL on own text [nats] / share of rows without a wrong move, means over seeds: a row a method, a column a cell."""
    runs = lane.scores(folder)
    table = {}
    for cell in CELLS:
        means = lane.of_cell(runs, cell).groupby("method")[["kl", "exact"]].mean()
        table[cell_name(cell)] = means.apply(lambda row: f"{row.kl:.3f} / {row.exact:.2f}", axis=1) if len(means) else {}
    methods = [name for name in WRITERS if name in set(runs.method)]
    frame = pd.DataFrame(table, index=methods).fillna("–")
    return frame.rename_axis("method").rename(index=lambda name: WRITERS[name].label).reset_index()


def lane_comparisons(folder: Path, outcome: str = "log_kl") -> pd.DataFrame:
    """AdaSwitch (floor = 0) minus each other method, mean with 95 % interval; a star: p < 0.05 (Holm over the three of the cell).

    Args:
        outcome: a name in `report.lane.OUTCOMES`.
    """
    found = lane.comparisons(lane.scores(folder))
    lines = []
    for cell in CELLS:
        rows = found[lane.is_cell(found, cell) & (found.outcome == outcome)]
        effects = {
            f"minus {label(row['against'])}": in_words(row["mean"], row["low"], row["high"]) + " *" * bool(row["p_holm"] < 0.05)
            for row in rows.to_dict("records")
        }
        lines += [{"world": cell_name(cell)} | effects] if effects else []
    return pd.DataFrame(lines, columns=["world", *(f"minus {label(name)}" for name in lane.AGAINST)])


def cell_name(cell: Cell) -> str:
    """A cell by its γ and by what sets it apart."""
    apart = ", no gusts" * (cell.gusts == 0) + f", {cell.sft_steps} steps of SFT" * (cell.sft_steps != CELLS[0].sft_steps)
    return f"γ = {cell.gamma:g}{apart}"
