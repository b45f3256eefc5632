"""Tables of the texts that students learn from, and of what the rule catches in them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from adaswitch_lib.experiments.records import reference_scores, with_settings
from adaswitch_lib.experiments.table_files import read_table_file
from adaswitch_lib.experiments.tasks import TASKS
from adaswitch_lib.report.plot_style import in_order, label
from adaswitch_lib.report.scores import final, first_half, grid, headline, leads, mean_over_steps
from adaswitch_lib.report.switches import pooled_shares, third
from adaswitch_lib.report.tables.form import effects, in_plain_words


def texts(results: Path, *methods: str) -> pd.DataFrame:
    """The task's score of the text that students learn from, over the first half of the steps (validation prompts): AdaSwitch's
    minus that of each method, paired by seed."""
    metrics = grid(results)
    written = metrics[metrics.metric.str.startswith("written_") & metrics.method.isin([*methods, "adaswitch"])]
    return effects(leads(mean_over_steps(first_half(written))))


def world(results: Path) -> pd.DataFrame:
    """Whether there is something to decide, a column a task; of tasks that students are not trained on, scores alone.

    Lines: test scores of the teacher, of the initial student, of the worst and the best method; the standard deviation between
    the methods' means, and that of AdaSwitch's paired differences from a method (median of the methods); before the first step,
    the score of the text that on-policy KD and AdaSwitch learn from; at the end, KL(teacher ‖ student) of KD's students on their
    own text and on the data, nats. Without controls, which may be bad on purpose.
    """
    metrics = with_settings(results, "metrics").query("method not in ['random', 'stop', 'fixed']")
    references = headline(reference_scores(results))
    scores, columns = final(metrics), {}
    for task in in_order(scores.task):
        wide = scores[scores.task == task].pivot_table(index="seed", columns="method", values="value")
        evaluated = metrics[(metrics.trained_on == task) & (metrics.split == "validation")]
        means = evaluated.groupby(["method", "metric", "step"]).value.mean()
        first, last, written = evaluated.step.min(), evaluated.step.max(), f"written_{TASKS[task].metric}"
        reference = references[references.task == task].groupby("method").value.mean()
        differences = wide.rsub(wide.get("adaswitch", float("nan")), axis=0).drop(columns="adaswitch", errors="ignore")
        columns[label(task)] = {
            "teacher": reference.get("teacher"),
            "initial student": reference.get("initial"),
            "worst method": wide.mean().min(),
            "best method": wide.mean().max(),
            "sd between methods": wide.mean().std(),
            "sd of paired differences": differences.std().median(),
            "first text, on-policy KD": means.get(("onpolicy", written, first)),
            "first text, AdaSwitch": means.get(("adaswitch", written, first)),
            "KD on own text [nats]": means.get(("kd", "kl_own", last)),
            "KD on the data [nats]": means.get(("kd", "kl_data", last)),
        }
    return pd.DataFrame(columns, dtype=float).rename_axis("measured").reset_index()


CAUGHT = {
    "mistaken": "texts with a mistake",
    "caught": "of these, switched in time",
    "switch_before": "of the texts that switch: before any mistake",
    "switch_at": "at the first wrong word",
    "switch_after": "after it",
}
"""Shares of `rollout_analysis.caught`. In time: before the first wrong word, or at it."""


def caught(results: Path) -> pd.DataFrame:
    """AdaSwitch's rule on the student's own validation texts, by third of the training: does it switch where the text goes wrong?
    Empty for tasks that do not know their first wrong word."""
    metrics = with_settings(results, "metrics").query("method == 'adaswitch' and metric in @CAUGHT")
    wide = metrics.pivot_table(index=["trained_on", "seed", "step"], columns="metric", values="value").reset_index()
    wide = wide.assign(third=third(wide, "trained_on"))
    table = wide.groupby(["trained_on", "third"], sort=False).mean(numeric_only=True).reindex(columns=list(CAUGHT))
    return in_plain_words(table.dropna(how="all")).rename(columns=CAUGHT)


def against_chance(results: Path) -> pd.DataFrame:
    """The rule on texts that on-policy students wrote alone, beside the same switch positions given to other texts (permuted), by
    third of the training; every text counts once. The first wrong word as a share of the texts that switch, and of all texts."""
    file = results / "chance.csv"
    if not file.is_file():
        return pd.DataFrame(columns=["task"])
    chance = read_table_file(file)
    shares = {"switch_at": "switching", "switch_after": "switching", "caught": "wrong"}
    both = shares | {f"permuted_{share}": texts for share, texts in shares.items()}
    chance = chance.assign(third=third(chance, "task"), texts=(chance.wrong / chance.mistaken).round())
    chance["texts"] = chance.texts.fillna(chance.texts.max())  # where none goes wrong
    keys = [chance.task, chance.third]
    table = pooled_shares(chance, keys, both)
    groups = chance.groupby(["task", "third"], sort=False)
    table.insert(0, "texts", groups.texts.sum().astype(int))
    table.insert(1, "switch", groups.switching.sum())
    table.insert(2, "at the first wrong word, of all", table.switch_at * table.switch / table.texts)
    names = {"switch_at": "of those that switch", "switch_after": "after it", "caught": "in time, of those that go wrong"}
    names |= {f"permuted_{share}": f"{name} (permuted)" for share, name in names.items()}
    return in_plain_words(table).rename(columns=names)
