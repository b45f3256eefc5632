"""Who wins where in the lane: scores of complete seeds, and the comparisons that the plan names. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from adaswitch_lib.experiments.lane.grid import CELLS, CHART, GAMMAS, SEEDS, WRITERS, Cell, finished, planned
from adaswitch_lib.experiments.table_files import read_table_file
from adaswitch_lib.report.statistics import Interval, holm, over_seeds, paired, ratio_of_means

OUTCOMES = {"log_kl": "log KL on own text", "exact": "rows without a wrong move"}
"""Primary and co-primary."""

AGAINST = ("onpolicy", "skd", "random")
"""What AdaSwitch with floor = 0 is compared with."""

SLOPED = GAMMAS[:4]
"""Of which γ the interaction is fitted: those of the first plan."""

CONTEST = ("offpolicy", "onpolicy", "skd", "adaswitch")
"""Who can win a γ. DART is shown beside: it is told how large the gusts are."""

REAL, AFTER, LEAST = "dialogsum", 16, 8
"""The real task whose teacher is set beside the lane's, after how many tokens, and of how many examples at least [`advice`]."""

SETTINGS = ["gamma", "gusts", "sft_steps"]


def scores(results: Path) -> pd.DataFrame:
    """A row a run of the seeds that are complete, with `log_kl`."""
    runs = finished(results)
    runs = runs[runs.seed.isin(SEEDS)]
    sizes = runs.groupby("seed").size()
    complete = sizes.index[sizes == len(planned(0, dict.fromkeys(GAMMAS, 0)))]
    runs = runs[runs.seed.isin(complete)]
    return runs.assign(log_kl=np.log(runs.kl.astype(float)))


def is_cell(table: pd.DataFrame, cell: Cell) -> pd.Series:
    """Which rows are of this cell."""
    return (table.gamma == cell.gamma) & (table.gusts == cell.gusts) & (table.sft_steps == cell.sft_steps)


def of_cell(table: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    """The rows of this cell."""
    return table[is_cell(table, cell)]


def comparisons(runs: pd.DataFrame) -> pd.DataFrame:
    """AdaSwitch (floor = 0) minus each of `AGAINST`, paired by seed, Holm over the three of a cell and outcome.

    Columns gamma, gusts, sft_steps, outcome, against, those of `Interval`, p_holm.
    """
    lines = []
    for cell in CELLS:
        for outcome in OUTCOMES:
            wide = by_seed(of_cell(runs, cell), outcome)
            found = {name: paired(wide["adaswitch"], wide[name]) for name in AGAINST if {"adaswitch", name} <= set(wide)}
            corrected = holm([interval.p for interval in found.values()])
            for (name, interval), p in zip(found.items(), corrected, strict=True):
                at = {"gamma": cell.gamma, "gusts": cell.gusts, "sft_steps": cell.sft_steps}
                lines.append(at | {"outcome": outcome, "against": name} | interval._asdict() | {"p_holm": p})
    return pd.DataFrame(lines, columns=[*SETTINGS, "outcome", "against", *Interval._fields, "p_holm"])


def winners(runs: pd.DataFrame) -> pd.DataFrame:
    """For each γ of the chart who has the lowest mean log KL, and whether the lead over each other of `CONTEST` is significant
    (paired by seed, Holm). AdaSwitch has to lead permuted switches, too.

    Columns gamma, leader, p (the largest), wins.
    """
    lines = []
    for cell in CHART:
        wide = by_seed(of_cell(runs, cell), "log_kl")
        if set(CONTEST) <= set(wide):
            leader = wide[list(CONTEST)].mean().idxmin()
            others = [name for name in CONTEST if name != leader] + ["random"] * (leader == "adaswitch")
            leads = [paired(wide[leader], wide[name]) for name in others]
            p = max(holm([lead.p for lead in leads]))
            wins = p < 0.05 and all(lead.mean < 0 for lead in leads)
            lines.append({"gamma": cell.gamma, "leader": leader, "p": p, "wins": wins})
    return pd.DataFrame(lines, columns=["gamma", "leader", "p", "wins"])


def interaction(runs: pd.DataFrame) -> pd.DataFrame:
    """How AdaSwitch's difference in log KL from each of `AGAINST` changes with γ: the slope of a line over `SLOPED`, fitted for
    each seed; over seeds, Holm over the three. Columns against, those of `Interval` (per unit of γ), p_holm."""
    cells = pd.concat([of_cell(runs, cell) for cell in CHART if cell.gamma in SLOPED])
    lines = []
    for name in AGAINST:
        pair = cells[cells.method.isin(["adaswitch", name])].pivot(index=["seed", "gamma"], columns="method", values="log_kl")
        if {"adaswitch", name} <= set(pair):
            lead = (pair["adaswitch"] - pair[name]).unstack()
            slopes = [np.polyfit(lead.columns.astype(float), row, 1)[0] for row in lead.to_numpy()]
            lines.append({"against": name} | over_seeds(slopes)._asdict())
    table = pd.DataFrame(lines, columns=["against", *Interval._fields])
    return table.assign(p_holm=holm(table.p))


def advice(folder: Path) -> pd.DataFrame:
    """What the teachers make of texts that others began, of the examples whose three texts are all that long; at least `LEAST`.

    Columns world, tokens (before the teacher goes on), n (examples), data, student, teacher (the teacher's mean entropy there by
    who began, nats), kept (its score after the student's text as a share of that after its own), low, high.
    """
    file = folder / "continuations.parquet"
    lines = []
    for (world, tokens), some in read_table_file(file).groupby(["world", "tokens"], sort=False) if file.is_file() else ():
        entropy, score = (some.pivot(index="example", columns="begun_by", values=name).dropna() for name in ("entropy", "score"))
        if len(score) < LEAST:
            continue
        kept, low, high = ratio_of_means(score.student, score.teacher)
        at = {"world": world, "tokens": tokens, "n": len(score)}
        lines.append(at | entropy.mean().to_dict() | {"kept": kept, "low": low, "high": high})
    return pd.DataFrame(lines, columns=["world", "tokens", "n", "data", "student", "teacher", "kept", "low", "high"])


def by_seed(runs: pd.DataFrame, outcome: str) -> pd.DataFrame:
    """A row a seed, a column a method."""
    return runs.pivot(index="seed", columns="method", values=outcome)


def texts(folder: Path) -> pd.DataFrame:
    """The texts that were kept to be read, as `explorer.compare` takes them, with a column prompt."""
    tokens = read_table_file(folder / "texts.parquet")
    return tokens.assign(label=tokens.method.map({name: method.label for name, method in WRITERS.items()}))
