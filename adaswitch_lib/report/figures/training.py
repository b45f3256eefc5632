"""Figures of what students learn from, and of what a step costs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from adaswitch_lib.experiments.records import with_settings
from adaswitch_lib.report.figures.drawing import over_training
from adaswitch_lib.report.figures.style import figure, panels
from adaswitch_lib.report.plot_style import Look, in_order, label, look
from adaswitch_lib.report.scores import CORE

COSTS = {
    "adaswitch": look("adaswitch"),
    "adaswitch, naive loop": Look("#000000", "x", "AdaSwitch, naive loop"),
    "on-policy": look("onpolicy"),
    "off-policy": look("offpolicy"),
}
"""Of the rollouts that the benchmark times, by their names there."""


@figure
def exposure(results: Path) -> Axes:
    """Over training, exposure bias: the student's KL from the teacher on its own text minus that on the data; below, the score of
    the text that each method learns from. Means over seeds with 95 % intervals."""
    metrics = with_settings(results, "metrics").query("split == 'validation'")
    metrics = metrics[metrics.method.isin(CORE)]
    wide = metrics.pivot_table(index=["trained_on", "method", "seed", "step"], columns="metric", values="value").reset_index()
    wide = wide.assign(exposure=wide.kl_own - wide.kl_data, written=wide.filter(regex="^written_").max(axis=1))
    tasks = in_order(wide.trained_on)
    axes = panels(2, len(tasks), 4.2, [label(task) for task in tasks])
    for (above, below), task in zip(axes.T, tasks, strict=True):
        rows = wide[wide.trained_on == task]
        over_training(rows, above, "exposure", legend=2)
        over_training(rows[~rows.method.isin(["sft", "kd"])], below, "written")  # theirs is the data
        above.set(ylabel="KL on own text − KL on the data [nats]")
        below.set(ylabel="score of the text learned from", ylim=(0, None))
    return axes[0, 0]


@figure
def along_the_sequence(results: Path) -> Axes:
    """KL(teacher ‖ student) at each token that the student wrote, at the last evaluation, of KD and on-policy KD, a panel a task.

    Tokens that fewer than forty texts reach are not drawn. AdaSwitch is not drawn: its students' tokens are those below the
    threshold, so that it would look better by construction.
    """
    traces = with_settings(results, "traces").query("source == 'student' and method in ['kd', 'onpolicy']")
    traces = traces[traces.step == traces.groupby("trained_on").step.transform("max")]
    traces = traces[traces.groupby(["trained_on", "method", "pos"]).pos.transform("size") >= 40]
    tasks = in_order(traces.trained_on)
    (axes,) = panels(1, len(tasks), 2.2, [label(task) for task in tasks])
    for ax, task in zip(axes, tasks, strict=False):
        rows = traces[traces.trained_on == task]
        over_training(rows.assign(token=rows.pos + 1), ax, "divergence", x="token", width=4, legend=1)
        ax.set(xlabel="token, four to a point", ylabel="KL(teacher ‖ student) [nats]", ylim=(0, None))
    return axes[0]


@figure
def step_seconds(results: Path) -> Axes:
    """Seconds a step over training, median of the seeds, a line a method, a panel a task."""
    switches = with_settings(results, "switches").query("step > 1")
    switches = switches[switches.method.isin(CORE)]
    tasks = in_order(switches.trained_on)
    (axes,) = panels(1, len(tasks), 2.2, [label(task) for task in tasks])
    for ax, task in zip(axes, tasks, strict=False):
        rows = switches[switches.trained_on == task]
        middle = rows.groupby(["method", "step"], as_index=False).step_seconds.median().assign(seed=0)
        over_training(middle, ax, "step_seconds", parts=10, legend=3)
        ax.set(ylabel="seconds a step", ylim=(0, 1.4 * ax.get_ylim()[1]))
    return axes[0]


@figure
def cost_growth(times: pd.DataFrame) -> Axes:
    """Seconds of a rollout against length, batch and vocabulary, a panel each, both axes logarithmic.

    Args:
        times: columns axis ("max_new_tokens", "batch", "vocab"), value, what, seconds.
    """
    names = {"max_new_tokens": "tokens written", "batch": "rows", "vocab": "words in the vocabulary"}
    (axes,) = panels(1, 3, 2.1)
    for ax, (axis, name) in zip(axes, names.items(), strict=True):
        rows = times[times["axis"] == axis]
        for what, line in rows.groupby("what", sort=False):
            ax.plot(line.value, line.seconds, marker=COSTS[what].marker, color=COSTS[what].colour, label=COSTS[what].label)
        ax.set(xscale="log", yscale="log", xlabel=name)
        ax.set_xticks(rows.value.unique(), [f"{value:,}" for value in rows.value.unique()], minor=False)
        ax.minorticks_off()
        ax.sharey(axes[0])
        ax.tick_params(labelleft=ax is axes[0])
    axes[0].set_ylabel("seconds a rollout")
    axes[0].set_yticks([0.05, 0.1, 0.2, 0.5, 1, 2, 5], ["0.05", "0.1", "0.2", "0.5", "1", "2", "5"])
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return axes[0]
