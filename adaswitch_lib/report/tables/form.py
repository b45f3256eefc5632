"""How a table is shown and kept: labels in the place of internal names, CSV, Markdown and LaTeX."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from adaswitch_lib.experiments.table_files import write_table
from adaswitch_lib.report.display import Html, cells
from adaswitch_lib.report.display import table as shown
from adaswitch_lib.report.plot_style import in_order, label, with_floor
from adaswitch_lib.report.statistics import Interval

HEADINGS = {
    "trained_on": "task",
    "against": "AdaSwitch minus",
    "loss": "learned by",
    "p_holm": "p (Holm)",
    "hodges_lehmann": "Hodges–Lehmann",
    "switch_rate": "texts that switch",
    "switch_position": "tokens before it",
    "switch_divergence": "KL at the switch [nats]",
    "teacher_share": "teacher's share of tokens",
    "length": "tokens",
    "rule.multiplier": "K",
    "rule.window": "L",
    "rule.min_history": "min_history",
    "rule.floor": "floor [nats]",
    "floor": "floor [nats]",
    "num_prompts": "prompts",
    "initial.steps": "steps of SFT",
    "learning_rate": "learning rate",
    "seconds": "seconds a step",
    "of kd": "steps of KD",
    "of onpolicy": "steps of on-policy KD",
}
"""Of columns whose names are those of results."""

NAMED = ("task", "trained_on", "method", "against", "loss")
"""Columns of internal names."""

SETTINGS = (
    *("rule.multiplier", "rule.window", "rule.min_history", "rule.floor", "floor"),
    *("num_prompts", "initial.steps", "learning_rate"),
)
"""Columns of numbers that were set, not measured: shown as they were written."""


def in_plain_words(frame: pd.DataFrame) -> pd.DataFrame:
    """Labels for the names of tasks, methods and divergences, methods with their floor, and plain headings. Names of rows become
    columns; rows are then sorted by task and method."""
    if any(frame.index.names):
        by = [name for name in frame.index.names if name in NAMED]
        order = {name: i for i, name in enumerate(in_order([name for level in by for name in frame.index.unique(level)]))}
        frame = frame.reset_index()
        frame = frame.sort_values(by, key=lambda names: names.map(order), kind="stable") if by else frame
    if {"method", "floor"} <= set(frame):
        names = [with_floor(*both) for both in zip(frame.method, frame.floor, strict=True)]
        frame = frame.assign(method=names).drop(columns="floor")
    plain = {name: frame[name].map(label) for name in NAMED if name in frame}
    plain |= {name: frame[name].map("{:g}".format) for name in SETTINGS if name in frame}
    return frame.assign(**plain).rename(columns=HEADINGS)


def effects(table: pd.DataFrame) -> pd.DataFrame:
    """Of a table of differences the columns that are read."""
    hidden = [name for name in Interval._fields if name not in ("mean", "low", "high", "n", "hodges_lehmann")]
    return in_plain_words(table.drop(columns=hidden, errors="ignore"))


def in_words(mean: float, low: float, high: float) -> str:
    """An effect and its 95 % interval, where there is one."""
    numbers = [f"{value:.3f}".replace("-", "−") for value in (mean, low, high)]
    return numbers[0] if low != low else f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"


def save(table: pd.DataFrame, results: Path, name: str, caption: str) -> Html:
    """Write `tables/<name>` into the results as CSV, Markdown and LaTeX (booktabs); returns it, to be shown."""
    folder = results / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    write_table(table, folder / f"{name}.csv", preset=results.name)
    (folder / f"{name}.md").write_text(f"{markdown(table)}\n\n{caption}\n", encoding="utf-8")
    latex = cells(table).to_latex(caption=caption.replace("%", r"\%"), escape=True, index=False)
    for mark, command in {"†": r"$\dagger$", "±": r"$\pm$", "−": "$-$"}.items():
        latex = latex.replace(mark, command)
    (folder / f"{name}.tex").write_text(latex, encoding="utf-8")
    return shown(table, caption)


def markdown(table: pd.DataFrame) -> str:
    """The table in Markdown, numbers with three digits, a dash where there is none."""
    rows = [list(map(str, table.columns)), ["---"] * table.shape[1], *cells(table).itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
