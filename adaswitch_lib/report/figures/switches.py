"""Figures of the switch: how often, where and at which divergence the teacher takes over."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from adaswitch_lib.experiments.records import with_settings
from adaswitch_lib.report.figures.drawing import around_the_switch, heatmap, over_training
from adaswitch_lib.report.figures.style import figure, panels
from adaswitch_lib.report.plot_style import floor_label, in_order, label
from adaswitch_lib.report.scores import curves, study
from adaswitch_lib.report.switches import by_rule, in_percent, of_adaswitch
from adaswitch_lib.report.tables.form import HEADINGS


@figure
def figure_4a(results: Path) -> Axes:
    """Figure 4a: over training, the share of texts in which the teacher takes over, the tokens before it does, and the teacher's
    share of all tokens; a line a task, a row of panels for each floor; means over seeds with 95 % intervals."""
    switches = in_percent(of_adaswitch(results))
    floors = sorted(switches.floor.unique())
    axes = panels(len(floors), 3, 0.3 + 1.7 * len(floors))
    wanted = {
        "switch_rate": "texts that switch",
        "switch_position": "tokens before it",
        "teacher_share": "teacher's share of tokens",
    }
    for floor, row in zip(floors, axes, strict=False):
        for ax, (column, name) in zip(row, wanted.items(), strict=True):
            rows = switches[switches.floor == floor]
            over_training(rows, ax, column, x="percent", by="trained_on", parts=10, legend=int(ax is row[0]))
            ax.set(ylabel=name, ylim=(0, None), xlim=(0, 100), xlabel="steps [%]" if floor == floors[-1] else "")
        row[0].set(ylabel=f"{floor_label(floor)}\ntexts that switch")
    return axes[0, 0]


@figure
def figure_4b(results: Path) -> Axes:
    """Figure 4b: KL(teacher ‖ student) at the token where the teacher takes over, over training; beside it, for each task, along
    the sequence around the switch, a line an evaluation; a row of panels for each floor."""
    switches, traces = in_percent(of_adaswitch(results)), of_adaswitch(results, "traces")
    tasks, floors = in_order(switches.trained_on), sorted(switches.floor.unique())
    titles = ["at the switch", *map(label, tasks)]
    axes = panels(len(floors), len(titles), 0.3 + 1.9 * len(floors), titles)
    for floor, (first, *others) in zip(floors, axes, strict=False):
        rows, kept = switches[switches.floor == floor], traces[traces.floor == floor]
        over_training(rows, first, "switch_divergence", x="percent", by="trained_on", parts=10, weight="switch_rate", legend=1)
        first.set(xlabel="steps [%]", ylim=(0, None), xlim=(0, 100), ylabel=f"{floor_label(floor)}\nKL at the switch [nats]")
        for ax, task in zip(others, tasks, strict=True):
            around_the_switch(kept[kept.trained_on == task], ax).set_visible(task in set(kept.trained_on))
    return axes[0, 0]


@figure
def rules(results: Path) -> Axes:
    """Validation score at the end, and share of texts that switch, for each multiplier K and window L, with floor = 0: a cell a
    rule, mean over seeds; grey where nothing was run."""
    scores, switches = by_rule(results)
    tasks = [task for task in in_order(scores.trained_on) if scores[scores.trained_on == task]["rule.multiplier"].nunique() > 1]
    titles = ["validation score at the end", "texts that switch, mean over training"]
    axes = panels(len(tasks), 2, 2.2 * max(1, len(tasks)), titles)
    for task, (left, right) in zip(tasks, axes, strict=False):
        for ax, table, value in ((left, scores, "value"), (right, switches, "switch_rate")):
            rows = table[(table.trained_on == task) & (table["rule.floor"] == 0)]
            history = rows["rule.min_history"].mode()[0]
            heatmap(rows[rows["rule.min_history"] == history], ax, "rule.window", "rule.multiplier", value)
            ax.set(ylabel="multiplier K", xlabel="window L [tokens]" if task == tasks[-1] else "")
        left.set(ylabel=f"{label(task)}: multiplier K")
    return axes[0, 0]


@figure
def floors(results: Path) -> Axes:
    """Over training, the share of texts that switch and KL(teacher ‖ student) at the switch, a line for each floor under the
    threshold; means over seeds with 95 % intervals."""
    switches = study(results, "floors", "switches").query("method == 'adaswitch'")
    tasks = in_order(switches.trained_on)
    axes = panels(len(tasks), 2, 2.1 * max(1, len(tasks)))
    for task, (left, right) in zip(tasks, axes, strict=False):
        rows = switches[switches.trained_on == task]
        over_training(rows, left, "switch_rate", by="floor", parts=10, legend=2)
        over_training(rows, right, "switch_divergence", by="floor", parts=10, weight="switch_rate")
        left.set(ylabel=f"{label(task)}: texts that switch", ylim=(0, 1.03))
        right.set(ylabel="KL at the switch [nats]", ylim=(0, None))
        left.get_legend().set_title("floor [nats]")
    return axes[0, 0]


@figure
def real_curves(results: Path) -> Axes:
    """Over training, with floor = 0: the share of texts that switch, the tokens before the switch and the divergence at it, on
    DialogSum and on the small tasks of the reference run; and the validation ROUGE-L of each method on DialogSum."""
    runs, reference = [of_adaswitch(results)], results.parent / "micro"
    runs += [of_adaswitch(reference)] if reference.is_dir() and any(reference.glob("runs.*")) else []
    switches = in_percent(pd.concat(runs).query("floor == 0"))
    wanted = {name: HEADINGS[name] for name in ("switch_rate", "switch_position", "switch_divergence")}
    axes = panels(2, 2, 4.0).ravel()
    for ax, (column, name) in zip(axes, wanted.items(), strict=False):
        over_training(switches, ax, column, x="percent", by="trained_on", parts=10, legend=int(ax is axes[1]))
        ax.set(xlabel="steps [%]", ylabel=name, ylim=(0, 1.05 if ax is axes[0] else None))
    over_training(curves(with_settings(results, "metrics")), axes[3], "value", legend=2)
    axes[3].set(ylabel="validation ROUGE-L", ylim=(None, 1.2 * axes[3].get_ylim()[1]))  # room for the legend
    return axes[0]
