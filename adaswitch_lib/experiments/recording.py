"""The last room of a run: tidy tables out of what came out."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers

from adaswitch_lib.experiments.config import RunConfig
from adaswitch_lib.experiments.final_evaluation import Evaluated
from adaswitch_lib.experiments.preparation import Prepared
from adaswitch_lib.experiments.records import add_run
from adaswitch_lib.experiments.table_files import COMMIT, significant
from adaswitch_lib.experiments.training import Trained

try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None

SWITCH_COLUMNS = "switch_rate switch_position switch_divergence teacher_share length write_seconds step_seconds".split()
ROUGH = ("loss", "write_seconds", "step_seconds")
"""Columns of which three digits are kept: the rest is chance, or the machine's."""


def record(prepared: Prepared, trained: Trained, evaluated: Evaluated, results: Path) -> None:
    """Write the folder of this run into the results."""
    config, history = prepared.config, trained.history
    if evaluated.collapsed:
        history = _without_scores(history, f"eval_{prepared.task.metric}", config)
    steps = history.loc[history.step_seconds.notna(), ["step", "loss", *SWITCH_COLUMNS]]
    tables = {
        "metrics": _metrics(history, evaluated.items, config),
        "switches": steps.assign(**{name: significant(steps[name], 3) for name in ROUGH}),
        "items": evaluated.items,
        "traces": trained.traces,
    }
    add_run(results, config.id, _settings(config, evaluated.collapsed, float(history.step_seconds.sum())), tables)


def _settings(config: RunConfig, collapsed: bool, seconds: float) -> dict[str, Any]:
    """The row of `runs.csv`."""
    made = {"collapsed": collapsed, "train_seconds": seconds, "threads": torch.get_num_threads(), "peak_memory_mb": _peak_memory()}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return config.columns() | made | {"commit": COMMIT, "python": platform.python_version()} | versions


def _without_scores(history: pd.DataFrame, name: str, config: RunConfig) -> pd.DataFrame:
    """A student that collapsed solves nothing in the evaluations that it did not live to see."""
    seen = set(history.step[history[name].notna()]) if name in history else set()
    missed = [step for step in range(0, config.steps + 1, config.eval_every) if step not in seen]
    return pd.concat([history, pd.DataFrame({"step": missed, name: 0.0})]).reindex(
        columns=list(dict.fromkeys([*history, name, "step_seconds", "loss", *SWITCH_COLUMNS]))
    )


def _metrics(history: pd.DataFrame, items: pd.DataFrame, config: RunConfig) -> pd.DataFrame:
    """Long form: step, task, split, metric, value. Validation along the way, test at the end."""
    names = sorted(name for name in history if name.startswith("eval_"))  # a run that was resumed has them in another order
    validation = history.melt(["step"], names, "metric").dropna().assign(task=config.task, split="validation")
    parts = [validation.assign(metric=validation.metric.str.removeprefix("eval_"))]
    for task, some in items.groupby("task", sort=False) if len(items) else ():
        means = some.drop(columns=["example"]).mean(numeric_only=True).dropna()
        test = means.rename_axis("metric").reset_index(name="value")
        parts.append(test.assign(task=task, split="test", step=config.steps))
    return pd.concat(parts)[["step", "task", "split", "metric", "value"]]


def _peak_memory() -> float | None:
    """MB that this process has had at most, for this run or for one it made before; None where the system does not tell."""
    if resource is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
