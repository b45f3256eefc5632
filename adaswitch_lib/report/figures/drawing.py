"""What figures are drawn with: each puts one kind of mark on one panel."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from adaswitch_lib.report.figures.style import zero_line
from adaswitch_lib.report.plot_style import in_order, label, look
from adaswitch_lib.report.statistics import over_seeds


def over_training(
    table: pd.DataFrame, ax: Axes, y: str, *, x: str = "step", by: str = "method", width: int = 1, parts: int = 0,
    weight: str | None = None, legend: int = 0, bands: bool = True,
) -> Axes:  # fmt: skip
    """A quantity over training, a line a method, task or number: with several seeds their mean and its 95 % interval.

    Args:
        table: columns seed, `x`, `y` and `by`.
        by: what lines are told apart by; numbers are coloured from low to high.
        width: steps averaged into one point. NaN (no row switched) is left out.
        parts: instead of `width`, how many points each value of `by` has, over its own length.
        weight: a column that the steps of a point count by.
        legend: how many columns it has; 0: none.
        bands: draw the intervals, too.
    """
    table = table.dropna(subset=[y])
    if parts:
        width = -(-table.groupby(by)[x].transform("max") // parts)
    if parts or width > 1:
        table = table.assign(**{x: (table[x] - 1) // width * width + width / 2})
    weights = table[weight] if weight else pd.Series(1.0, table.index)
    table = table.assign(weight=weights, summed=table[y] * weights)
    names = in_order(sorted(table[by].unique()))
    for i, name in enumerate(names):
        style = look(name) or shade(i, len(names))
        sums = table[table[by] == name].groupby([x, "seed"])[["summed", "weight"]].sum()
        by_seed = (sums.summed / sums.weight).unstack()
        found = pd.DataFrame([over_seeds(row.dropna()) for _, row in by_seed.iterrows()], index=by_seed.index)
        front = 3 if name == "adaswitch" else 2
        ax.plot(found["mean"], color=style[0], marker=style[1], label=label(name), zorder=front)
        if bands:
            ax.fill_between(found.index, found.low, found.high, color=style[0], alpha=0.18, lw=0)
    ax.set_xlabel("optimiser step")
    ax.margins(x=0.02)
    if legend and ax.lines:
        ax.legend(ncols=legend)
    return ax


def around_the_switch(traces: pd.DataFrame, ax: Axes, reach: int = 8, least: int = 8) -> Axes:
    """The mean divergence by position relative to the switch, a line each for up to four of the evaluations in which enough rows
    switched, the first and the last of them among these; with the number of those rows.

    Args:
        traces: columns step, seed, example, pos, divergence, switch_index.
        reach: tokens before and after the switch.
        least: evaluations and points of fewer rows are not drawn.
    """
    traces = traces[traces.switch_index >= 0].assign(offset=lambda t: t.pos - t.switch_index)
    traces = traces[traces.offset.abs() <= reach]
    switching = traces[traces.offset == 0].groupby("step").size()
    steps = switching.index[switching >= least].to_numpy()
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, 4).round().astype(int))] if len(steps) else steps
    for i, step in enumerate(steps):
        line = traces[traces.step == step].groupby("offset").divergence.agg(["mean", "size"])
        rows, line = line["size"][0], line[line["size"] >= least]
        colour, marker = shade(i, len(steps))
        ax.plot(line.index, line["mean"], color=colour, marker=marker, label=f"{step} ({rows})")
    if ax.lines:
        ax.legend(handlelength=1.0, title="step (rows)")
    ax.axvline(0, color="0.6", lw=0.7, ls=":")
    ax.set(xlabel="token, counted from the switch", ylabel="KL(teacher ‖ student) [nats]", ylim=(0, None))
    return ax


def each_student(table: pd.DataFrame, ax: Axes) -> Axes:
    """Scores over training, a line a student; dotted: one half.

    Args:
        table: columns method, seed, step, value.
    """
    for (method, _), line in table.sort_values("step").groupby(["method", "seed"]):
        ax.plot(line.step, line.value, color=look(method).colour, lw=0.6, alpha=0.8)
    ax.axhline(0.5, color="0.6", lw=0.7, ls=":", zorder=0)
    ax.set_xlabel("optimiser step")
    ax.margins(x=0.02)
    return ax


def each_seed(table: pd.DataFrame, ax: Axes) -> Axes:
    """A grey line a seed, over the methods that were run with it, and a mark at each method's mean. Seeds differ by their initial
    students: compare methods along a line.

    Args:
        table: columns method, seed, value.
    """
    names = in_order(table.method)
    wide = table.pivot(index="seed", columns="method", values="value")[names]
    for _, line in wide.iterrows():
        ax.plot(range(len(names)), line, color="0.7", lw=0.6, marker=".", ms=3)
    for i, name in enumerate(names):
        ax.plot(i, wide[name].mean(), color=look(name).colour, marker=look(name).marker, ms=5, ls="none", zorder=3)
    ax.set_xticks(range(len(names)), [label(name) for name in names], rotation=45, ha="right", rotation_mode="anchor")
    ax.set_ylim(0, 1.08 * (wide.max(axis=None) or 1) if names else None)
    return ax


def differences(table: pd.DataFrame, ax: Axes, methods: Sequence[str]) -> Axes:
    """A line a method, AdaSwitch minus it, mean and 95 % interval; right of zero AdaSwitch is better.

    Args:
        table: of `scores.leads`, one row a method. Filled marks are statistically significant.
        methods: from top to bottom; those that the table lacks stay empty.
    """
    for line in table.itertuples():
        y, (colour, marker, _) = methods.index(line.against), look(line.against)
        ax.plot([line.low, line.high], [y, y], color=colour)
        fill = colour if line.p_holm < 0.05 else "white"
        ax.plot(line.mean, y, marker=marker, color=colour, mfc=fill, ms=5, mew=0.8, ls="none")
    ax.axvline(0, color="0.6", lw=0.7, ls=":", zorder=0)
    ax.set_yticks(range(len(methods)), [label(name) for name in methods])
    ax.set_ylim(len(methods) - 0.4, -0.6)
    return ax


def by_setting(table: pd.DataFrame, ax: Axes, x: str, intervals: bool = True, legend: int = 0) -> Axes:
    """Values against a setting that has names: for each method a dot a seed, and a mark at their mean.

    Args:
        table: columns method, seed, `x` and value; the names are drawn in the order in which they come.
        intervals: draw those of 95 % over seeds, too.
        legend: how many columns it has; 0: none.
    """
    names, methods = list(dict.fromkeys(table[x])), in_order(table.method)
    for i, method in enumerate(methods):
        colour, marker, name = look(method)
        rows = table[table.method == method]
        shift = 0.18 * (i - (len(methods) - 1) / 2)
        ax.plot(rows[x].map(names.index) + shift, rows.value, ".", color=colour, alpha=0.5, ms=3)
        found = pd.DataFrame([over_seeds(rows.value[rows[x] == value]) for value in names])
        ax.plot(found.index + shift, found["mean"], color=colour, marker=marker, ls="none", label=name)
        if intervals:
            ax.vlines(found.index + shift, found.low, found.high, color=colour, lw=0.9)
            zero_line(ax)
    ax.set_xticks(range(len(names)), [label(name) for name in names])
    ax.margins(x=0.08, y=0.06)
    if legend:
        ax.legend(ncols=legend)
    return ax


def heatmap(table: pd.DataFrame, ax: Axes, x: str, y: str, value: str) -> Axes:
    """A share by two settings, its mean over seeds written into each cell, its colour from 0 to 1; grey where nothing was run.

    Args:
        table: columns `x`, `y` and `value`, a row a run.
    """
    import seaborn  # takes half a second

    means = table.pivot_table(index=y, columns=x, values=value, aggfunc="mean").rename(index="{:g}".format, columns="{:g}".format)
    ax.set_facecolor("0.9")
    seaborn.heatmap(means, ax=ax, vmin=0, vmax=1, cmap="cividis", cbar=False, annot=True, fmt=".3f")
    ax.invert_yaxis()
    ax.tick_params(length=0, labelrotation=0)
    return ax


def shade(i: int, count: int) -> tuple:
    """Colour and marker of the i-th of several numbers, from dark to light."""
    return plt.get_cmap("viridis")(0.9 * i / max(1, count - 1)), "o"
