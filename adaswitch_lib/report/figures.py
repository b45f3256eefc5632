"""One function a figure: data and `ax` in, axes out. No torch. Those of single rollouts are in `rollout_figures`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adaswitch_lib.report.plot_style import COSTS, LOOKS, SCORES, STYLE
from adaswitch_lib.report.statistics import over_seeds


def cost_growth(times: pd.DataFrame, axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Seconds of a rollout against length, batch and vocabulary, one panel each, both axes logarithmic.

    Args:
        times: columns axis ("max_new_tokens", "batch", "vocab"), value, what, seconds.
    """
    labels = {"max_new_tokens": "tokens written", "batch": "rows", "vocab": "words in the vocabulary"}
    with plt.style.context(STYLE):
        if axes is None:
            _, axes = plt.subplots(1, 3, figsize=(7.0, 2.1), sharey=True)
        for ax, (axis, label) in zip(axes, labels.items(), strict=True):
            some = times[times["axis"] == axis]
            for what, line in some.groupby("what", sort=False):
                colour, marker, name = COSTS[what]
                ax.plot(line["value"], line["seconds"], marker=marker, color=colour, label=name)
            ax.set(xscale="log", yscale="log", xlabel=label)
            ax.set_xticks(some["value"].unique(), [f"{value:,}" for value in some["value"].unique()], minor=False)
            ax.minorticks_off()
        axes[0].set_ylabel("seconds a rollout")
        axes[0].set_yticks([0.05, 0.1, 0.2, 0.5, 1, 2, 5], ["0.05", "0.1", "0.2", "0.5", "1", "2", "5"])
        handles, names = axes[0].get_legend_handles_labels()
        axes[0].figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    return axes


def panels(rows: int, columns: int, height: float, titles: Sequence[str] = ()) -> np.ndarray:
    """Empty axes [rows columns] in our style: a paper's column wide for one panel, its text width for several.

    Args:
        height: of the figure, inches.
        titles: of the panels in the first row; keys of `LOOKS` become their labels.
        columns: 0 gives one panel that says that there is nothing to draw.
    """
    if columns == 0:
        columns, titles = 1, ["no such runs yet"]
    with plt.style.context(STYLE):
        _, axes = plt.subplots(rows, columns, figsize=(3.4 if columns == 1 else 7.0, height), squeeze=False)
        for ax, title in zip(axes[0], titles, strict=False):
            ax.set_title(LOOKS[title][2] if title in LOOKS else title)
    return axes


def over_training(
    table: pd.DataFrame, ax: Axes, y: str, *, x: str = "step", by: str = "method", width: int = 1, parts: int = 0,
    weight: str | None = None, legend: int = 0, bands: bool = True,
) -> Axes:  # fmt: skip
    """Figures 4 and 5: a quantity over training, a line a method or task; with several seeds their mean and its 95 % interval.

    Args:
        table: columns seed, `x`, `y` and `by`.
        by: "method" or "trained_on"; or numbers, which are coloured from low to high.
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
    with plt.style.context(STYLE):
        names = sorted(table[by].unique(), key=list(LOOKS).index if table[by].isin(list(LOOKS)).all() else None)
        for i, name in enumerate(names):
            colour, marker, label = LOOKS.get(name, (plt.get_cmap("viridis")(0.9 * i / max(1, len(names) - 1)), "o", f"{name}"))
            sums = table[table[by] == name].groupby([x, "seed"])[["summed", "weight"]].sum()
            by_seed = (sums.summed / sums.weight).unstack()
            found = pd.DataFrame([over_seeds(row.dropna()) for _, row in by_seed.iterrows()], index=by_seed.index)
            ax.plot(found["mean"], color=colour, marker=marker, label=label, zorder=3 if name == "adaswitch" else 2)
            if bands:
                ax.fill_between(found.index, found.low, found.high, color=colour, alpha=0.18, lw=0)
        ax.set_xlabel("optimiser step")
        ax.margins(x=0.02)
        if legend and ax.lines:
            ax.legend(ncols=legend)
    return ax


def over_training_by(curves: pd.DataFrame, differences_: pd.DataFrame, column: str, name: str) -> Axes:
    """Mean scores over training under each value of a setting, and below them AdaSwitch's leads over each method, paired by seed:
    a column of panels a value, rows for each task. The first panel is returned.

    Args:
        curves: columns task, method, metric, step, seed, value, and `column`, which holds numbers.
        differences_: of `tables.paired_differences` within `column`, with a column scores that says of which scores.
        name: of the setting, with a place for its value: "{:,} prompts".
    """
    tasks, kinds = list(curves.task.unique()), list(differences_.scores.unique()) if len(differences_) else []
    values = sorted(curves[column].unique())
    rows = max(1, len(tasks) * (1 + len(kinds)))
    axes = panels(rows, len(values), 0.6 + 1.3 * rows, [name.format(value) for value in values])
    for task, (first, *others) in zip(tasks, np.split(axes, max(1, len(tasks))), strict=False):
        some = curves[curves.task == task]
        for ax, value in zip(first, values, strict=False):
            over_training(some[some[column] == value], ax, "value", bands=False)
            ax.set(ylim=(0, 1.05 * (some.value.max() or 1)))
        first[0].set(ylabel=f"{LOOKS[task][2]}, {SCORES[some.metric.iloc[0]]}")
        lines = differences_[differences_.task == task]
        for row, kind in zip(others, kinds, strict=True):
            for ax, value in zip(row, values, strict=False):
                differences(lines[(lines.scores == kind) & (lines[column] == value)], ax)
                ax.set(xlabel=f"lead, {kind}")
                ax.tick_params(labelleft=ax is row[0])
            widest = np.abs([ax.get_xlim() for ax in row]).max()
            for ax in row:
                ax.set_xlim(-widest, widest)
    with plt.style.context(STYLE):
        handles, names = axes[0, 0].get_legend_handles_labels()
        axes[0, 0].figure.legend(handles, names, loc="outside upper center", ncols=max(1, len(names)))
    return axes[0, 0]


def around_the_switch(traces: pd.DataFrame, ax: Axes, reach: int = 8, least: int = 8) -> Axes:
    """Figure 4b, along the sequence: the mean divergence by position relative to the switch, a line each for up to four of the
    examinations in which enough rows switched, the first and the last of them among these; with the number of those rows.

    Args:
        traces: columns step, seed, example, pos, divergence, switch_index.
        reach: tokens before and after the switch.
        least: examinations and points of fewer rows are not drawn.
    """
    traces = traces[traces.switch_index >= 0].assign(offset=lambda t: t.pos - t.switch_index)
    traces = traces[traces.offset.abs() <= reach]
    switching = traces[traces.offset == 0].groupby("step").size()
    steps = switching.index[switching >= least].to_numpy()
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, 4).round().astype(int))] if len(steps) else steps
    with plt.style.context(STYLE):
        for i, step in enumerate(steps):
            line = traces[traces.step == step].groupby("offset").divergence.agg(["mean", "size"])
            rows = line["size"][0]
            line = line[line["size"] >= least]
            ax.plot(
                line.index,
                line["mean"],
                color=plt.get_cmap("viridis")(0.9 * i / max(1, len(steps) - 1)),
                marker="o",
                label=f"{step} ({rows})",
            )
        if ax.lines:
            ax.legend(handlelength=1.0, title="step (rows)")
        ax.axvline(0, color="0.6", lw=0.7, ls=":")
        ax.set(xlabel="token, counted from the switch", ylabel="KL(teacher ‖ student) [nats]", ylim=(0, None))
    return ax


def students(table: pd.DataFrame, ax: Axes) -> Axes:
    """Scores over training, a line a student; dotted, the half that `tables.passing` counts by.

    Args:
        table: columns method, seed, step, value.
    """
    with plt.style.context(STYLE):
        for (method, _), line in table.sort_values("step").groupby(["method", "seed"]):
            ax.plot(line.step, line.value, color=LOOKS[method][0], lw=0.6, alpha=0.8)
        ax.axhline(0.5, color="0.6", lw=0.7, ls=":", zorder=0)
        ax.set_xlabel("optimiser step")
        ax.margins(x=0.02)
    return ax


def each_seed(table: pd.DataFrame, ax: Axes, y: str = "value") -> Axes:
    """Figure 5, below: a grey line a seed, over the methods that were run with it, and a mark at each method's mean. Seeds differ
    by their starts: compare methods along a line.

    Args:
        table: columns method, seed and `y`.
    """
    with plt.style.context(STYLE):
        names = [name for name in LOOKS if name in set(table.method)]
        wide = table.pivot(index="seed", columns="method", values=y)[names]
        for _, line in wide.iterrows():
            ax.plot(range(len(names)), line, color="0.7", lw=0.6, marker=".", ms=3)
        for i, name in enumerate(names):
            ax.plot(i, wide[name].mean(), color=LOOKS[name][0], marker=LOOKS[name][1], ms=5, ls="none", zorder=3)
        ax.set_xticks(range(len(names)), [LOOKS[name][2] for name in names], rotation=45, ha="right", rotation_mode="anchor")
        ax.set_ylim(0, 1.08 * (wide.max(axis=None) or 1) if names else None)
    return ax


def differences(table: pd.DataFrame, ax: Axes) -> Axes:
    """Claim C1 at a glance: a line a method, AdaSwitch minus it, mean and 95 % interval; right of zero AdaSwitch is better.

    Args:
        table: of `tables.paired_differences`, of one task. Filled marks are those that Holm's correction leaves below 0.05.
    """
    with plt.style.context(STYLE):
        table = table.iloc[::-1].reset_index(drop=True)
        for i, line in table.iterrows():
            colour, marker, _ = LOOKS[line.against]
            sure = line.p_holm < 0.05
            ax.plot([line.low, line.high], [i, i], color=colour)
            ax.plot(line["mean"], i, marker=marker, color=colour, mfc=colour if sure else "white", ms=5, mew=0.8, ls="none")
        ax.axvline(0, color="0.6", lw=0.7, ls=":", zorder=0)
        ax.set_yticks(range(len(table)), [LOOKS[name][2] for name in table.against])
        ax.set_ylim(-0.6, len(table) - 0.4)
    return ax


def by_setting(table: pd.DataFrame, ax: Axes, x: str, y: str = "value", intervals: bool = True, legend: int = 0) -> Axes:
    """Figure 3: a quantity against a setting that has names: for each method a dot a seed, and a mark at their mean.

    Args:
        table: columns method, seed, `x` and `y`; the names are drawn in the order in which they come.
        intervals: draw those of 95 % over seeds, too.
        legend: how many columns it has; 0: none.
    """
    names = list(dict.fromkeys(table[x]))
    methods = [name for name in LOOKS if name in set(table.method)]
    with plt.style.context(STYLE):
        for i, method in enumerate(methods):
            colour, marker, label = LOOKS[method]
            some = table[table.method == method]
            shift = 0.18 * (i - (len(methods) - 1) / 2)
            ax.plot(some[x].map(names.index) + shift, some[y], ".", color=colour, alpha=0.5, ms=3)
            found = pd.DataFrame([over_seeds(some.loc[some[x] == name, y]) for name in names])
            ax.plot(found.index + shift, found["mean"], color=colour, marker=marker, ls="none", label=label)
            if intervals:
                ax.vlines(found.index + shift, found.low, found.high, color=colour, lw=0.9)
        ax.set_xticks(range(len(names)), names)
        ax.margins(x=0.08, y=0.06)
        if legend:
            ax.legend(ncols=legend)
    return ax


def scores_and_leads(scores: pd.DataFrame, setting: str, label: str = "") -> Axes:
    """Figure 3: scores by a setting that has names, a row of panels a task. Left: a dot a seed, and their means; right: AdaSwitch
    minus each method, paired by seed, with 95 % intervals. The first panel is returned.

    Args:
        scores: of `tables.final_scores`, with the column `setting`.
        label: of the setting's axis.
    """
    tasks = list(dict.fromkeys(scores.task))
    axes = panels(max(1, len(tasks)), 2 if tasks else 0, 2.2 * max(1, len(tasks)))
    for task, (left, right) in zip(tasks, axes, strict=False):
        some = scores[scores.task == task]
        wide = some.pivot_table("value", [setting, "seed"], "method", sort=False)
        leads = wide.rsub(wide.adaswitch, axis=0).drop(columns="adaswitch").melt(ignore_index=False).reset_index()
        by_setting(some, left, setting, intervals=False, legend=1)
        by_setting(leads, right, setting).axhline(0, color="0.6", lw=0.7, ls=":", zorder=0)
        left.set(xlabel=label, ylabel=f"{LOOKS[task][2]}: test, {SCORES[some.metric.iloc[0]]}", ylim=(0, 1.04))
        right.set(xlabel=label, ylabel="AdaSwitch − method")
    return axes[0, 0]


def heatmap(table: pd.DataFrame, ax: Axes, x: str, y: str, value: str = "value") -> Axes:
    """A share by two settings, its mean over seeds written into each cell, its colour from 0 to 1; grey where nothing was run.

    Args:
        table: columns `x`, `y` and `value`, a row a run.
    """
    cells = table.pivot_table(index=y, columns=x, values=value, aggfunc="mean")
    if cells.empty:
        ax.set_title("no such runs yet")
        return ax
    with plt.style.context(STYLE):
        ax.set_facecolor("0.9")
        labels = {
            f"{axis}ticklabels": [f"{name:g}" for name in names] for axis, names in (("x", cells.columns), ("y", cells.index))
        }
        seaborn.heatmap(cells, ax=ax, vmin=0, vmax=1, cmap="cividis", annot=True, fmt=".3f", cbar=False, **labels)
        ax.invert_yaxis()
        ax.tick_params(length=0, labelrotation=0)
    return ax


def save(ax: Axes, folder: Path, name: str) -> Figure:
    """Write the figure of `ax` as `<name>.png` and `<name>.pdf`, the same bytes for the same figure, and return it closed."""
    with plt.style.context(STYLE):
        ax.figure.savefig(folder / f"{name}.png", metadata={"Software": None})
        ax.figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    plt.close(ax.figure)  # or a notebook would show it twice
    return ax.figure
