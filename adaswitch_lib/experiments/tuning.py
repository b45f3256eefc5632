"""Tuning: choose what the paper leaves open, on validation data, with the same budget for every method.

Each method is tried five times, for the steps of the preset `tuning`, with a seed that the reference does not use:
with four learning rates, then once more at the best of them: with another value of its own setting, or, where it has
none, with a rate between the best and the better of its neighbours. No test row is looked at. The controls take the settings of
AdaSwitch, since they must differ from it in one thing alone, and `fixed` hands over where AdaSwitch did in the mean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adaswitch_lib.experiments.config import RunConfig
from adaswitch_lib.experiments.locks import locked
from adaswitch_lib.experiments.paths import results_dir
from adaswitch_lib.experiments.presets import CHOICES_FILE, PRESETS, read_choices
from adaswitch_lib.experiments.records import finished, read_table
from adaswitch_lib.experiments.table_files import read_table_file, write_table
from adaswitch_lib.experiments.tasks import TASKS

RATES = (2e-3, 4e-3, 8e-3, 1e-3)
"""Learning rates, tried by every method."""

OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("sft", "seqkd", "kd", "offpolicy", "onpolicy", "gkd", "imitkd"), {}),
    "skd": {"top_k": 2},
    "adaswitch": {"floor": 0.0},
    "switch": {"initial": 0.1},
}
"""Methods to choose for, and another value of the setting that is a method's own, against that of the preset."""

CONTROLS = ("random", "stop", "fixed")


def rates(tasks: Sequence[str]) -> list[RunConfig]:
    """The first four runs of every method."""
    return [
        _candidate(task, method, i, {"learning_rate": rate}) for task in tasks for method in OWN for i, rate in enumerate(RATES)
    ]


def refined(tasks: Sequence[str]) -> list[RunConfig]:
    """The fifth run of every method, at the best of the four rates.

    Raises:
        ValueError: if one of the four has not been run yet.
    """
    scores = _scores(rates(tasks))
    runs = []
    for task in tasks:
        for method, own in OWN.items():
            by_rate = {config.learning_rate: score for config, score in scores if (config.task, config.method) == (task, method)}
            best = max(by_rate, key=by_rate.get)
            settings = {"learning_rate": best} | own if own else {"learning_rate": _between(best, by_rate)}
            runs.append(_candidate(task, method, len(RATES), settings))
    return runs


def choose(tasks: Sequence[str]) -> pd.DataFrame:
    """Pick the best setting of every method and task from the finished candidates, and write down the choice.

    The score is the task's metric on validation rows, averaged over the last two evaluations; of equals the first.
    Writes `choices.json` beside this file, and `choices.csv` and `choices.md` into the results of micro.

    Raises:
        ValueError: if a candidate has not been run yet.
    """
    scores = _scores(rates(tasks) + refined(tasks))
    table = pd.DataFrame(
        {"task": c.task, "method": c.method, "settings": json.dumps(_settings(c)), "score": score, "run": c.id}
        for c, score in scores
    )
    table = table.sort_values(["task", "method"], kind="stable", key=lambda names: names.map([*tasks, *OWN].index))
    best = table.loc[table.groupby(["task", "method"], sort=False).score.idxmax()]
    table["chosen"] = table.index.isin(best.index)
    chosen = {f"{line.task}/{line.method}": json.loads(line.settings) for line in best.itertuples()}
    for task in tasks:
        chosen |= {f"{task}/{control}": dict(chosen[f"{task}/adaswitch"]) for control in CONTROLS}
        (run,) = best.query("task == @task and method == 'adaswitch'").run
        chosen[f"{task}/fixed"]["fraction"] = _mean_position(run, TASKS[task].max_new_tokens)
    config = scores[0][0]
    with locked(CHOICES_FILE):
        choices = read_choices(CHOICES_FILE) | chosen
        new = CHOICES_FILE.with_suffix(".tmp")
        new.write_text(json.dumps(choices, indent=2) + "\n", encoding="utf-8")
        os.replace(new, CHOICES_FILE)
        out = results_dir("micro")
        if (out / "choices.csv").is_file():  # those of the other task
            before = read_table_file(out / "choices.csv")
            table = pd.concat([before[~before.task.isin(tasks)], table])
        table = table.sort_values("task", key=lambda names: names.map(list(TASKS).index), kind="stable")
        write_table(table, out / "choices.csv", steps=config.steps, seed=config.seed, rows=config.validation_rows)
        _write_page(out / "choices.md", table, config, choices)
    return table


def _candidate(task: str, method: str, number: int, settings: dict[str, Any]) -> RunConfig:
    preset = PRESETS["tuning"]
    return preset.config(task, method, preset.seeds[0], variant=f"choice{number}", **settings)


def _between(best: float, by_rate: dict[float, float]) -> float:
    """The geometric mean of the best rate and the better of the rates next to it, two digits."""
    ordered = sorted(by_rate)
    at = ordered.index(best)
    neighbour = max((ordered[i] for i in (at - 1, at + 1) if 0 <= i < len(ordered)), key=by_rate.get)
    return float(f"{(best * neighbour) ** 0.5:.1e}")


def _scores(configs: Sequence[RunConfig]) -> list[tuple[RunConfig, float]]:
    results = results_dir("tuning")
    if missing := {config.id for config in configs} - finished(results):
        raise ValueError(f"{len(missing)} candidates have not been run: adaswitch tune runs them.")
    metrics = read_table(results, "metrics").query("split == 'validation'")
    scored = []
    for config in configs:
        curve = metrics[(metrics.run == config.id) & (metrics.metric == TASKS[config.task].metric)]
        scored.append((config, float(curve.sort_values("step").value.tail(2).mean())))
    return scored


def _settings(config: RunConfig) -> dict[str, Any]:
    policy = config.resolve_method().policy
    own = {name: config.rule.floor if name == "floor" else getattr(policy, name) for name in OWN[config.method]}
    return {"learning_rate": config.learning_rate} | own


def _mean_position(run: str, max_new_tokens: int) -> float:
    """Where this run switched, in the mean over its steps, as a share of the tokens allowed."""
    switches = read_table(results_dir("tuning"), "switches")
    return round(float(switches[switches.run == run].switch_position.mean()) / max_new_tokens, 2)


def _write_page(file: Path, table: pd.DataFrame, config: RunConfig, chosen: dict[str, dict[str, Any]]) -> None:
    lines = [
        "# What was chosen, and on what",
        "",
        f"Every method was tried with five settings, {config.steps} steps of {config.batch_size} rows each, one seed",
        f"({config.seed}) that the reference does not use. The score is the task's metric on {config.validation_rows}",
        "validation rows, mean of the last two evaluations. No test row was looked at. One seed does not decide: scores",
        "within a few points are equals.",
        "K = 3 is reported of the paper; L = 8, `min_history` = 4 and SWITCH's decay were not chosen but set (notebook 09",
        "sweeps the former two).",
        "",
        "| task | method | settings | score | |",
        "|---|---|---|---|---|",
    ]
    for line in table.itertuples():
        lines.append(
            f"| {line.task} | {line.method} | `{line.settings}` | {line.score:.3f} | {'**chosen**' if line.chosen else ''} |"
        )
    lines += ["", "The controls take AdaSwitch's; `fixed` hands over where AdaSwitch did in the mean:", ""]
    lines += [f"- {name}: `{json.dumps(chosen[name])}`" for name in chosen if name.endswith(CONTROLS)]
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")
