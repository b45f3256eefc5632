"""The figure of the lane: who wins at which γ, and why."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from adaswitch_lib.experiments.lane.grid import CHART, WRITERS
from adaswitch_lib.experiments.table_files import read_table_file
from adaswitch_lib.report import lane
from adaswitch_lib.report.figures.drawing import shade
from adaswitch_lib.report.figures.style import figure, panels
from adaswitch_lib.report.plot_style import COLOURS
from adaswitch_lib.report.statistics import over_seeds


@figure
def who_wins(folder: Path) -> Axes:
    """The lane, by γ, a line a method, means over seeds with 95 % intervals. Above: KL from the reliable rule on the student's own
    text in gusts, on the colour of the method that wins there, if one does significantly; rows without a wrong move; and the
    teacher's mass on the right place after k slips. Below: right moves after a far slip; right tokens in the text learned from; the
    teacher's mass on the right place in that text."""
    runs = lane.scores(folder)
    chart = pd.concat([lane.of_cell(runs, cell) for cell in CHART])
    (kl, exact, teacher), (steers, right, advice) = panels(2, 3, 5.0)
    _over_gamma(chart, kl, "log_kl", np.exp)
    kl.set(yscale="log", ylabel="KL on own text [nats]")
    kl.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_locator=NullLocator())
    _regions(runs, kl)
    shown = {
        exact: ("exact", "rows without a wrong move"),
        steers: ("steers", "right moves after a far slip"),
        right: ("text_right", "right tokens in the text learned from"),
        advice: ("advice_right", "teacher's mass on the right place, there"),
    }
    for ax, (column, name) in shown.items():
        _over_gamma(chart, ax, column)
        ax.set(ylabel=name, ylim=(0, 1.03), xlabel="γ")
    kl.set_xlabel("γ, what each further slip costs the advice")
    _teachers(folder, teacher)
    handles, names = kl.get_legend_handles_labels()
    kl.figure.legend(handles, names, loc="outside upper center", ncols=4)
    return kl


@figure
def advice(folder: Path) -> Axes:
    """What a teacher makes of texts that others began. Left: the entropy of SmolLM2's next token on DialogSum, by who began the
    text and how long it is. Right: the score of what the teacher adds where the student began the text, as a share of that where
    the teacher did; the lane by γ, DialogSum as a line, with 95 % bootstrap intervals."""
    found = lane.advice(folder)
    ((entropy, kept),) = panels(1, 2, 2.6)
    real = found[found.world == lane.REAL]
    begun = {"data": ("#000000", "s"), "student": (COLOURS["student"], "o"), "teacher": (COLOURS["teacher"], "*")}
    for name, (colour, marker) in begun.items():
        entropy.plot(real.tokens, real[name], color=colour, marker=marker, ms=4, lw=0.8, label=f"begun by the {name}")
    entropy.set(xlabel="tokens so far", ylabel="teacher's entropy [nats]", ylim=(0, None), xticks=real.tokens)
    after = found[found.tokens == lane.AFTER].set_index("world")
    rows = after[after.index.str.startswith("lane ")]
    lengths = [rows.kept - rows.low, rows.high - rows.kept]
    kept.errorbar(
        rows.index.str.removeprefix("lane "), rows.kept, lengths, color="#000000", marker="o", ms=3.5, lw=0.8, label="the lane"
    )
    for line in after[after.index == lane.REAL].itertuples():
        kept.axhline(line.kept, color=COLOURS["teacher"], lw=1, label="SmolLM2 on DialogSum")
        kept.axhspan(line.low, line.high, color=COLOURS["teacher"], alpha=0.15, lw=0)
    kept.set(xlabel="γ of the lane", ylabel=f"score kept after {lane.AFTER} tokens by the student")
    for ax in (entropy, kept):
        ax.legend()
    return entropy


def _over_gamma(runs: pd.DataFrame, ax: Axes, column: str, scale=lambda x: x) -> None:
    """A line a method over the γ of the chart, at equal distances: means of `column` with intervals, put through `scale`."""
    gammas = [cell.gamma for cell in CHART]
    names = [name for name in WRITERS if name in set(runs.method)]
    for i, name in enumerate(names):
        colour, marker = WRITERS[name].style
        rows = runs[runs.method == name]
        found = pd.DataFrame([over_seeds(rows[column][rows.gamma == gamma]) for gamma in gammas])
        x = np.arange(len(gammas)) + 0.06 * (i - (len(names) - 1) / 2)
        front = 3 if name == "adaswitch" else 2
        ax.plot(x, scale(found["mean"]), color=colour, marker=marker, ms=3.5, lw=0.8, label=WRITERS[name].label, zorder=front)
        ax.vlines(x, scale(found.low), scale(found.high), color=colour, lw=0.8, zorder=front)
    ax.set_xticks(range(len(gammas)), [f"{gamma:g}" for gamma in gammas])
    ax.set_xlim(-0.5, len(gammas) - 0.5)


def _regions(runs: pd.DataFrame, ax: Axes) -> None:
    """Behind neighbouring γ the colour of the method that wins there, and its name."""
    gammas = [cell.gamma for cell in CHART]
    for leader, lines in groupby(lane.winners(runs).itertuples(), key=lambda line: line.leader if line.wins else ""):
        places = [gammas.index(line.gamma) for line in lines]
        if leader:
            ax.axvspan(places[0] - 0.5, places[-1] + 0.5, color=WRITERS[leader].style[0], alpha=0.15, lw=0, zorder=0)
        text = WRITERS[leader].label.removesuffix(" KD") if leader else "–"
        middle = (places[0] + places[-1]) / 2
        ax.text(middle, 1.01, text, transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=6)


def _teachers(folder: Path, ax: Axes) -> None:
    """The teachers' mean mass on the right place after k slips, a line a γ; dotted: the rule that they learned from."""
    file = folder / "teachers.csv"
    known = read_table_file(file) if file.is_file() else pd.DataFrame(columns=["gamma", "slips", "network", "rule"])
    gammas = sorted(known.gamma.unique())
    for i, gamma in enumerate(gammas):
        colour, marker = shade(i, len(gammas))
        rows = known[known.gamma == gamma].sort_values("slips")
        ax.plot(rows.slips, rows.network, color=colour, marker=marker, ms=3, lw=0.8, label=f"{gamma:g}")
        ax.plot(rows.slips, rows.rule, color=colour, ls=":", lw=0.8)
    ax.set(
        xlabel="wrong tokens among the last 8", ylabel="teacher's mass on the right place", ylim=(0, 1.03), xticks=range(0, 9, 2)
    )
    if gammas:
        ax.legend(title="γ")
