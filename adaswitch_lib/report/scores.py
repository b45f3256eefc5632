"""Scores out of results: at the end, early, and AdaSwitch's lead over each method. No torch.

Frames are those of `records.with_settings`, with a column `floor`: the least threshold of AdaSwitch's rule [nats], 0 for the
paper's formula, NaN for methods without a rule.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from adaswitch_lib.experiments.records import read_table, with_settings
from adaswitch_lib.experiments.tasks import TASKS
from adaswitch_lib.report.plot_style import in_order
from adaswitch_lib.report.statistics import holm, paired

BASELINES = ("sft", "seqkd", "kd", "onpolicy", "skd")
"""What the paper compares AdaSwitch with."""

CORE = (*BASELINES, "adaswitch")

CONTROLS = ("random", "fixed", "stop", "offpolicy")
"""What tells whether it is the adaptive switch that helps."""

RULED = ("adaswitch", "random", "stop")
"""Methods with AdaSwitch's rule."""

REACHED = 0.1
"""A task of whose test rows no method's students get as many right is out of reach, and says nothing of methods."""


def grid(results: Path, table: str = "metrics") -> pd.DataFrame:
    """A table of the grid's runs, and of those that differ from them in that they have no floor."""
    runs = with_settings(results, table)
    studies = with_settings(results, table, "floors", "controls")
    studies = studies[~studies.run.isin(runs.run)]
    both = pd.concat([runs, studies[studies["rule.floor"] == 0][[*runs]]], ignore_index=True)
    rules = read_table(results, "runs").set_index("run")["rule.floor"]
    return both.assign(floor=both.run.map(rules).where(both.method.isin(RULED)))


def study(results: Path, name: str, table: str = "metrics") -> pd.DataFrame:
    """A table of a study's runs and of the grid's that they are paired with, with all settings."""
    runs = with_settings(results, table, name)
    return runs.assign(floor=runs["rule.floor"].where(runs.method.isin(RULED)))


def of_grid(table: pd.DataFrame) -> pd.DataFrame:
    """Of `grid` the runs of the grid alone: those with the floor that validation chose."""
    chosen = table.groupby(["trained_on", "method"]).floor.transform("max")
    return table[table.floor.isna() | (table.floor == chosen)]


def headline(metrics: pd.DataFrame) -> pd.DataFrame:
    """Each task's own metric."""
    return metrics[metrics.metric == metrics.task.map({name: task.metric for name, task in TASKS.items()})]


def final(metrics: pd.DataFrame) -> pd.DataFrame:
    """The test scores at the end."""
    return headline(metrics[metrics.split == "test"])


def curves(metrics: pd.DataFrame) -> pd.DataFrame:
    """The validation scores over training."""
    return headline(metrics[metrics.split == "validation"])


def out_of_reach(scores: pd.DataFrame) -> set[str]:
    """Tasks that students fail by every method; only where `scores` are those of `final`."""
    best = headline(scores[scores.split == "test"]).groupby(["task", "method"]).value.mean().groupby("task").max()
    return set(best.index[best < REACHED])


def first_half(rows: pd.DataFrame) -> pd.DataFrame:
    """Evaluations up to half of the steps, without the one before the first step, where all methods have the same student."""
    return rows[(rows.step > 0) & (2 * rows.step <= rows.groupby("trained_on").step.transform("max"))]


def early(metrics: pd.DataFrame) -> pd.DataFrame:
    """The mean validation score over the first half of the steps."""
    return mean_over_steps(first_half(curves(metrics)))


def mean_over_steps(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a run and task: its mean `value`."""
    return rows.assign(value=rows.groupby(["run", "task"]).value.transform("mean")).drop_duplicates(["run", "task"])


def held_out(metrics: pd.DataFrame) -> pd.DataFrame:
    """KL(teacher ‖ student) on validation data after the last step, nats a token."""
    rows = metrics[(metrics.split == "validation") & (metrics.metric == "kl_data")]
    return rows[rows.step == rows.groupby("trained_on").step.transform("max")]


def leads(scores: pd.DataFrame, within: str | None = None) -> pd.DataFrame:
    """AdaSwitch minus every other method, paired by seed, with Holm's correction over all lines of one floor.

    Controls that have AdaSwitch's rule are compared at the same floor. Tasks that are out of reach have no corrected p-value and do
    not count in the correction.

    Args:
        scores: one row a run and task: task, split, metric, method, floor, seed, value.
        within: a column of settings; differences are then taken between runs that share its value.

    Returns:
        Columns `within`, task, floor, against (the other method), those of `statistics.Interval`, p_holm.
    """
    lines = []
    for setting, part in scores.groupby(within) if within else [(None, scores)]:
        for task in in_order(part.task):
            rows = part[part.task == task]
            for floor, ours in rows[rows.method == "adaswitch"].groupby("floor"):
                for method in in_order(set(rows.method) - {"adaswitch"}):
                    theirs = rows[(rows.method == method) & (rows.floor.isna() | (rows.floor == floor))]
                    pairs = ours.merge(theirs, on="seed", suffixes=("", "_theirs"))
                    if len(pairs):
                        line = {within: setting} if within else {}
                        line |= {"task": task, "floor": floor, "against": method}
                        lines.append(line | paired(pairs.value, pairs.value_theirs)._asdict())
    table = pd.DataFrame(lines)
    if len(table):
        counted = table.p.mask(table.task.isin(out_of_reach(scores)))
        table["p_holm"] = counted.groupby(table.floor).transform(holm)
    return table
