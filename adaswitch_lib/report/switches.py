"""When the teacher takes over in training, out of results. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from adaswitch_lib.experiments.records import with_settings
from adaswitch_lib.report.scores import curves, grid

RULE = ["rule.multiplier", "rule.window", "rule.min_history", "rule.floor"]


def of_adaswitch(results: Path, table: str = "switches") -> pd.DataFrame:
    """A table of AdaSwitch's runs with floor = 0 and, where validation chose one, with a floor."""
    runs = grid(results, table)
    return runs[runs.method == "adaswitch"]


def in_percent(switches: pd.DataFrame) -> pd.DataFrame:
    """With the column `percent`: the share of its run's steps that each step is at, rounded up to whole percent."""
    return switches.assign(percent=-(-100 * switches.step // switches.groupby("run").step.transform("max")))


def by_rule(results: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """AdaSwitch under every rule that was tried: scores at the end on validation rows, and what the switches did; of the seeds that
    all rules of a task were tried with."""
    metrics = curves(with_settings(results, "metrics", "rules", "floors").query("method == 'adaswitch'"))
    last = metrics[metrics.step == metrics.groupby("task").step.transform("max")]
    tried = last.groupby(["task", "seed"]).run.transform("nunique")
    scores = last[tried == tried.groupby(last.task).transform("max")]
    switches = with_settings(results, "switches", "rules", "floors")
    return scores, switches[switches.run.isin(scores.run)]


def third(rows: pd.DataFrame, by: str) -> pd.Series:
    """Which third of the training each row is of: "first", "second" or "last"."""
    part = 3 * rows.step // (rows.groupby(by).step.transform("max") + 1)
    return part.map({0: "first", 1: "second", 2: "last"}).rename("third")


def pooled_shares(table: pd.DataFrame, keys: Sequence, shares: Mapping[str, str]) -> pd.DataFrame:
    """Shares of groups of lines, in which every text counts once, whichever line it belongs to.

    Args:
        keys: what to group by.
        shares: column -> the column that says of how many texts it is a share. Where it is NaN there were none.
    """
    found = {}
    for share, texts in shares.items():
        count = table[texts].where(table[share].notna())
        found[share] = (table[share] * count).groupby(keys, sort=False).sum() / count.groupby(keys, sort=False).sum()
    return pd.DataFrame(found)
