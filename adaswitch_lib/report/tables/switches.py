"""Tables of the switch: how often, where, and by which rule."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from adaswitch_lib.report.plot_style import in_order
from adaswitch_lib.report.scores import final, grid, study
from adaswitch_lib.report.statistics import Pooled, pooled
from adaswitch_lib.report.switches import RULE, by_rule, in_percent, of_adaswitch, third
from adaswitch_lib.report.tables.form import in_plain_words

SWITCHED = ["switch_rate", "switch_position", "teacher_share"]


def tenths(results: Path) -> pd.DataFrame:
    """AdaSwitch in the first and in the last tenth of the steps, for each task and floor: texts that switch, tokens before, the
    teacher's share, and the divergence at the switch, which is a mean over the texts that switch."""
    switches = in_percent(of_adaswitch(results))
    part = pd.cut(switches.percent, [0, 10, 90, 100], labels=["first tenth", "between", "last tenth"]).rename("steps")
    switches = switches.assign(summed=switches.switch_divergence * switches.switch_rate)
    groups = switches.groupby(["trained_on", "floor", part], observed=True)
    table = groups[SWITCHED].mean().assign(switch_divergence=groups.summed.sum() / groups.switch_rate.sum())
    return in_plain_words(table.drop("between", level="steps", errors="ignore"))


def early_switches(results: Path, tokens: int = 14) -> pd.DataFrame:
    """The share of texts that switch within the first tokens, for each task and floor, by third of the training; of the validation
    texts that are kept. Longer texts have more occasions to switch; 14 tokens is the length of a dialogue's summary."""
    keys = ["trained_on", "floor", "run", "step", "example"]
    texts = of_adaswitch(results, "traces").groupby(keys, as_index=False).switch_index.first()
    texts = texts.assign(third=third(texts, "trained_on"), early=texts.switch_index.between(0, tokens - 1))
    wide = texts.groupby(["trained_on", "floor", "third"], sort=False).early.mean().unstack()
    return in_plain_words(wide.add_suffix(" third").rename_axis(None, axis=1))


def by_divergence(results: Path) -> pd.DataFrame:
    """What AdaSwitch's switches did under each divergence that it learns and switches by, mean over training."""
    switches = study(results, "divergences", "switches").query("method == 'adaswitch'")
    table = switches.groupby(["trained_on", "loss_of_run"])[SWITCHED].mean().rename_axis(index={"loss_of_run": "loss"})
    return in_plain_words(table)


def rules(results: Path) -> pd.DataFrame:
    """Every rule that was tried: the validation score at the end, the number of seeds, and what the switch did over training."""
    scores, switches = by_rule(results)
    keys = ["trained_on", *RULE]
    table = switches.groupby(keys)[SWITCHED].mean()
    table.insert(0, "score", scores.groupby(keys).value.mean())
    table.insert(1, "seeds", scores.groupby(keys).seed.nunique())
    return in_plain_words(table)


def rules_pooled(results: Path) -> pd.DataFrame:
    """All rules of a task together, on test rows: how far their means lie apart, the standard deviation that neither rule nor seed
    explains, the difference between two rules that would be significant (p < 0.05, uncorrected), and the p-value of no difference
    at all."""
    scores = final(pd.concat([study(results, "rules"), study(results, "floors")]))
    scores = scores[(scores.method == "adaswitch") & (scores.task == scores.trained_on)].drop_duplicates("run")
    lines = []
    for task in in_order(scores.task):
        wide = scores[scores.task == task].pivot_table(index=RULE, columns="seed", values="value").dropna(axis=1)
        if min(wide.shape) > 1:
            found: Pooled = pooled(wide)
            means = wide.mean(axis=1)
            spread = {"rules": len(wide), "seeds": wide.shape[1], "lowest mean": means.min(), "highest mean": means.max()}
            lines.append({"task": task} | spread | found._asdict())
    table = pd.DataFrame(lines, columns=None if lines else ["task"])
    return in_plain_words(table.rename(columns={"spread": "unexplained sd", "detectable": "detectable difference"}))


def behaviour(results: Path, *methods: str) -> pd.DataFrame:
    """What the switches of some methods did, mean over training."""
    switches = grid(results, "switches").query("method in @methods")
    table = switches.groupby(["trained_on", "method", "floor"], dropna=False)[[*SWITCHED, "length"]].mean()
    return in_plain_words(table)
