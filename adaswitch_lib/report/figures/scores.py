"""Figures of scores: at the end, over training, and AdaSwitch's lead over each method."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from adaswitch_lib.experiments.tasks import TASKS
from adaswitch_lib.report.figures.drawing import by_setting, each_seed, each_student, over_training
from adaswitch_lib.report.figures.drawing import differences as lead_marks
from adaswitch_lib.report.figures.style import centred, figure, panels, zero_line
from adaswitch_lib.report.plot_style import in_order, label, with_floor
from adaswitch_lib.report.scores import BASELINES, CONTROLS, CORE, curves, early, final, grid, leads, of_grid, study


@figure
def differences(results: Path) -> Axes:
    """AdaSwitch's test score minus that of each method, mean over seeds with 95 % interval, a panel for each task and floor.
    Right of zero AdaSwitch is better; filled marks are statistically significant."""
    table = leads(final(grid(results)))
    return _lead_panels(table[~table.against.isin(["random", "stop", "fixed"])])


@figure
def controls(results: Path) -> Axes:
    """AdaSwitch's test score minus that of on-policy KD, off-policy KD, permuted and fixed switches, mean over seeds with 95 %
    interval, a panel for each task and floor. Filled marks are statistically significant.

    Texts that stop at the switch do far worse and would stretch the axis: they are in the table.
    """
    rows = final(grid(results))
    rows = rows[rows.task.isin(rows.task[rows.method == "random"])]
    return _lead_panels(leads(rows[rows.method.isin(["adaswitch", "onpolicy", *CONTROLS]) & (rows.method != "stop")]))


def _lead_panels(table: pd.DataFrame) -> Axes:
    kinds = table[["task", "floor"]].drop_duplicates().itertuples(index=False, name=None)
    parts = {with_floor(*kind).replace(", ", "\n"): table[(table.task == kind[0]) & (table.floor == kind[1])] for kind in kinds}
    methods = in_order(table.against)
    (axes,) = panels(1, len(parts), 0.7 + 0.2 * max(3, len(methods)), list(parts))
    for ax, part in zip(axes, parts.values(), strict=False):
        lead_marks(part, ax, methods)
        ax.set(xlabel=f"lead, {TASKS[part.task.iloc[0]].metric_label}")
        ax.tick_params(labelleft=ax is axes[0])
    centred(axes)
    return axes[0]


@figure
def figure_3(results: Path) -> Axes:
    """Figure 3: test scores of students that learn, and switch, by four divergences. Left: a dot a seed, and their means; right:
    AdaSwitch minus each method, paired by seed, with 95 % intervals."""
    scores = final(study(results, "divergences"))
    return _scores_and_leads(pd.concat([scores[scores.loss == loss] for loss in in_order(scores.loss)] or [scores]), "loss")


@figure
def prompts(results: Path) -> Axes:
    """Test scores by the number of training prompts. Left: a dot a seed, and their means; right: AdaSwitch minus each method,
    paired by seed, with 95 % intervals."""
    scores = final(study(results, "prompts")).sort_values("num_prompts", kind="stable")
    return _scores_and_leads(scores.assign(num_prompts=scores.num_prompts.map("{:,}".format)), "num_prompts", "prompts")


def _scores_and_leads(scores: pd.DataFrame, setting: str, name: str = "") -> Axes:
    scores = scores[scores.task == scores.trained_on]
    tasks = in_order(scores.task)
    axes = panels(len(tasks), 2, 2.2 * max(1, len(tasks)))
    for task, (left, right) in zip(tasks, axes, strict=False):
        rows = scores[scores.task == task]
        wide = rows.pivot_table("value", [setting, "seed"], "method", sort=False)
        pairs = wide.rsub(wide.adaswitch, axis=0).drop(columns="adaswitch").melt(ignore_index=False).reset_index()
        by_setting(rows, left, setting, intervals=False, legend=1)
        by_setting(pairs, right, setting)
        left.set(xlabel=name, ylabel=f"{label(task)}: test, {TASKS[task].metric_label}", ylim=(0, 1.04))
        right.set(xlabel=name, ylabel="AdaSwitch − method")
    return axes[0, 0]


@figure
def initial_students(results: Path) -> Axes:
    """Validation scores over training from initial students with more or less supervised training; below, AdaSwitch's lead over
    each method at the end and over the first half, paired by seed, with 95 % intervals. Filled marks are statistically
    significant."""
    return _over_training_by(study(results, "initial_students"), "initial.steps", "after {} steps of SFT")


def _over_training_by(metrics: pd.DataFrame, setting: str, title: str) -> Axes:
    """Curves under each value of a setting, a column of panels a value, and below them the leads, at the end and early."""
    metrics = metrics[metrics.task == metrics.trained_on]
    kinds = {"test, end": leads(final(metrics), setting), "validation, first half": leads(early(metrics), setting)}
    tasks, values = in_order(metrics.task), sorted(metrics[setting].unique())
    axes = panels(3 * len(tasks), len(values), 0.6 + 3.9 * max(1, len(tasks)), [title.format(value) for value in values])
    for i, task in enumerate(tasks):
        rows = curves(metrics[metrics.task == task])
        for ax, value in zip(axes[3 * i], values, strict=True):
            over_training(rows[rows[setting] == value], ax, "value", bands=False)
            ax.set(ylim=(0, 1.05 * (rows.value.max() or 1)))
        axes[3 * i, 0].set(ylabel=f"{label(task)}, {TASKS[task].metric_label}")
        for row, (kind, table) in zip(axes[3 * i + 1 :], kinds.items(), strict=False):
            for ax, value in zip(row, values, strict=True):
                lead_marks(table[(table.task == task) & (table[setting] == value)], ax, in_order(table.against))
                ax.set(xlabel=f"lead, {kind}")
                ax.tick_params(labelleft=ax is row[0])
            centred(row)
    handles, names = axes[0, 0].get_legend_handles_labels()
    axes[0, 0].figure.legend(handles, names, loc="outside upper center", ncols=max(1, len(names)))
    return axes[0, 0]


@figure
def figure_5(results: Path) -> Axes:
    """Figure 5: validation scores over training, mean over seeds, of the methods that the paper compares; below, test scores after
    the last step of all methods: a grey line a seed, a mark at each method's mean."""
    metrics = of_grid(grid(results))
    tasks = in_order(metrics.trained_on)
    axes = panels(2, len(tasks), 4.4, _titles(metrics, tasks))
    for (above, below), task in zip(axes.T, tasks, strict=True):
        rows, name = metrics[metrics.task == task], TASKS[task].metric_label
        over_training(curves(rows[rows.method.isin(CORE)]), above, "value", legend=2, bands=False)
        each_seed(final(rows), below)
        above.set(ylabel=f"validation, {name}", ylim=(0, min(1.03, above.get_ylim()[1])))
        below.set(ylabel=f"test, {name}", ylim=(0, min(1.03, below.get_ylim()[1])))
    return axes[0, 0]


@figure
def lead(results: Path) -> Axes:
    """AdaSwitch's validation score minus that of each method that the paper compares, over training, paired by seed, mean with
    95 % interval. Above zero AdaSwitch leads."""
    rows = curves(grid(results))
    ours = rows[rows.method == "adaswitch"]
    pairs = rows[rows.method.isin(BASELINES)].merge(ours, on=["task", "seed", "step"], suffixes=("", "_ours"))
    pairs = pairs.assign(lead=pairs.value_ours - pairs.value)
    kinds = [(task, floor) for task in in_order(ours.task) for floor in sorted(ours.floor[ours.task == task].unique())]
    methods = in_order(pairs.method)
    axes = panels(len(kinds), len(methods), 0.3 + 1.5 * len(kinds), [label(method) for method in methods])
    for row, (task, floor) in zip(axes, kinds, strict=False):
        for ax, method in zip(row, methods, strict=False):
            ax.sharey(row[0])
            shown = (pairs.task == task) & (pairs.floor_ours == floor) & (pairs.method == method)
            zero_line(over_training(pairs[shown], ax, "lead"))
            ax.tick_params(labelleft=ax is row[0])
        row[0].set(ylabel=f"{with_floor(task, floor)}:\nlead, {TASKS[task].metric_label}")
    return axes[0, 0]


@figure
def students(results: Path) -> Axes:
    """Validation scores over training, a line a student, a column of panels a method; dotted: one half."""
    metrics = of_grid(grid(results))
    tasks, names = in_order(metrics.trained_on), in_order({*CORE, "random"} & set(metrics.method))
    titles = [label(name) for name in names]
    axes = panels(len(tasks), len(names), 0.3 + 1.5 * len(tasks), titles)
    for row, task in zip(axes, tasks, strict=False):
        rows = curves(metrics[metrics.task == task])
        for ax, name in zip(row, names, strict=False):
            each_student(rows[rows.method == name], ax)
            ax.set(ylim=(0, 1.03 * (rows.value.max() or 1)))
            ax.tick_params(labelleft=ax is row[0])
        row[0].set(ylabel=f"{label(task)}: {TASKS[task].metric_label}")
    return axes[0, 0]


def _titles(rows: pd.DataFrame, tasks: list[str]) -> list[str]:
    """Tasks with the floor that AdaSwitch has there."""
    floors = rows[rows.method == "adaswitch"].groupby("trained_on").floor.max()
    return [with_floor(task, floors.get(task, float("nan"))) for task in tasks]
