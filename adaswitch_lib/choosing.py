"""Choose what the paper leaves open, on validation data, with the same budget for every method.

Each method is tried with four settings, for the steps of the preset `choosing`, with a seed that the
reference does not use; no test row is looked at. The controls take the settings of AdaSwitch, since they must differ
from it in one thing alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from adaswitch_lib.config import RunConfig
from adaswitch_lib.paths import results_dir
from adaswitch_lib.presets import CHOICES_FILE, PRESETS
from adaswitch_lib.records import finished, read_table, write_table
from adaswitch_lib.tasks import TASKS

_RATES = tuple({"learning_rate": rate} for rate in (2e-3, 4e-3, 8e-3))
CANDIDATES: dict[str, tuple[dict[str, Any], ...]] = {
    method: (*_RATES, other)
    for method, other in {
        **dict.fromkeys(("sft", "seqkd", "kd", "offpolicy", "onpolicy", "gkd", "imitkd"), {"learning_rate": 1e-3}),
        "skd": {"learning_rate": 4e-3, "top_k": 2},
        "adaswitch": {"learning_rate": 4e-3, "floor": 0.0},
        "switch": {"learning_rate": 4e-3, "initial": 0.1},
    }.items()
}
"""Settings to try, four a method: three rates, the same for all, and a fourth setting: a lower rate or, where a method has a
setting of its own, another value of that at the middle rate."""

CONTROLS = ("random", "stop", "fixed")


def candidate_configs(tasks: Sequence[str], methods: Sequence[str] = tuple(CANDIDATES)) -> list[RunConfig]:
    """The runs that the choice is made from."""
    preset = PRESETS["choosing"]
    return [
        preset.config(task, method, preset.seeds[0], variant=f"choice{i}", **settings)
        for task in tasks
        for method in methods
        for i, settings in enumerate(CANDIDATES[method])
    ]


def choose(tasks: Sequence[str]) -> pd.DataFrame:
    """Pick the best setting of every method and task from the finished candidates, and write down the choice.

    The score is the task's metric on validation rows, averaged over the last two examinations; of equals the first.
    Writes `choices.json` beside this file, and `choices.csv` and `choices.md` into the results of micro.

    Raises:
        ValueError: if a candidate has not been run yet.
    """
    configs = candidate_configs(tasks)
    results = results_dir("choosing")
    if missing := {config.id for config in configs} - finished(results):
        raise ValueError(f"{len(missing)} candidates have not been run: python -m adaswitch_lib choose runs them.")
    metrics = read_table(results, "metrics")
    lines = []
    for config in configs:
        metric = TASKS[config.task].metric
        curve = metrics[(metrics.run == config.id) & (metrics.split == "validation") & (metrics.metric == metric)]
        score = curve.sort_values("step").value.tail(2).mean()
        settings = CANDIDATES[config.method][int(config.variant.removeprefix("choice"))]
        lines.append({"task": config.task, "method": config.method, "settings": json.dumps(settings), "score": score})
    table = pd.DataFrame(lines)
    best = table.loc[table.groupby(["task", "method"], sort=False).score.idxmax()]
    table["chosen"] = table.index.isin(best.index)
    chosen = {f"{line.task}/{line.method}": json.loads(line.settings) for line in best.itertuples()}
    for task in table.task.unique():
        chosen |= {f"{task}/{control}": chosen[f"{task}/adaswitch"] for control in CONTROLS}
    before = json.loads(CHOICES_FILE.read_text()) if CHOICES_FILE.is_file() else {}
    CHOICES_FILE.write_text(json.dumps(before | chosen, indent=2) + "\n")
    out = results_dir("micro")
    write_table(table, out / "choices.csv", steps=configs[0].steps, seed=configs[0].seed, rows=configs[0].validation_rows)
    (out / "choices.md").write_text(_page(table, configs[0]), encoding="utf-8")
    return table


def _page(table: pd.DataFrame, config: RunConfig) -> str:
    lines = [
        "# What was chosen, and on what",
        "",
        f"Every method was tried with four settings, {config.steps} steps of {config.batch_size} rows each, one seed",
        f"({config.seed}) that the reference does not use. The score is the task's metric on {config.validation_rows}",
        "validation rows, mean of the last two examinations. No test row was looked at. The controls take AdaSwitch's",
        "settings. K = 3 is reported of the paper. One seed does not decide: scores within a few points are equals.",
        "",
        "| task | method | settings | score | |",
        "|---|---|---|---|---|",
    ]
    for line in table.itertuples():
        lines.append(
            f"| {line.task} | {line.method} | `{line.settings}` | {line.score:.3f} | {'**chosen**' if line.chosen else ''} |"
        )
    return "\n".join([*lines, ""])
