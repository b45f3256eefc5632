"""Tables of scores and of what a step costs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from adaswitch_lib.experiments.records import reference_scores, with_settings
from adaswitch_lib.report.plot_style import REFERENCES, in_order, label, with_floor
from adaswitch_lib.report.scores import curves, early, final, grid, headline, held_out, leads, study
from adaswitch_lib.report.statistics import Interval, over_seeds
from adaswitch_lib.report.tables.form import effects, in_plain_words


def table_1(results: Path) -> pd.DataFrame:
    """Table 1: test score of every method on every task, mean ± half of the 95 % interval over seeds.

    A dagger: AdaSwitch, with floor = 0 or the same floor, differs from it (p < 0.05, paired by seed, Holm over the table). A method
    with fewer seeds than others says so: its mean is of other students, and is not compared. The teacher and the student before
    distillation have rows of their own.
    """
    scores = final(grid(results))
    references = headline(reference_scores(results)).assign(floor=float("nan"))
    rows = pd.concat([references[references.task.isin(scores.task)], scores], ignore_index=True)
    rows["name"] = [with_floor(*line) for line in zip(rows.method, rows.floor, strict=True)]
    compared = leads(scores)
    different = {(line.task, line.against, line.floor) for line in compared.itertuples() if line.p_holm < 0.05}
    seeds = scores.groupby(["task", "method"]).seed.nunique().groupby("task").max()
    cells: dict[str, dict[str, str]] = {}
    for method in in_order(rows.method):
        for (_, name, task), part in rows[rows.method == method].groupby(["floor", "name", "task"], dropna=False):
            cell = _plus_minus(over_seeds(part.value))
            if method not in REFERENCES and len(part) < seeds[task]:
                cell = f"{part.value.mean():.3f} ({len(part)} of {seeds[task]} seeds)"
            elif (task, method, part.floor.fillna(0).iloc[0]) in different:  # without a rule: against the paper's formula
                cell += " †"
            cells.setdefault(name, {})[label(task)] = cell
    table = pd.DataFrame(cells.values(), columns=[label(task) for task in in_order(scores.task)])
    table.insert(0, "method", list(cells))
    return table.fillna("–")


def lead_table(results: Path, *methods: str) -> pd.DataFrame:
    """AdaSwitch minus each method on the test rows, paired by seed; of all methods, or of some."""
    scores = final(grid(results))
    return effects(leads(scores[scores.method.isin([*methods, "adaswitch"])] if methods else scores))


def held_out_table(results: Path) -> pd.DataFrame:
    """KL(teacher ‖ student) on held-out text after the last step: AdaSwitch minus each method, nats a token; lower is better."""
    return effects(leads(held_out(grid(results))))


def study_leads(results: Path, name: str, setting: str) -> pd.DataFrame:
    """A study's leads under each value of its setting, at the end on test rows and early on validation rows."""
    metrics = study(results, name)
    metrics = metrics[metrics.task == metrics.trained_on]
    if metrics.empty:
        return pd.DataFrame(columns=["task"])
    parts = {"test, end": final(metrics), "validation, first half": early(metrics)}
    found = [leads(scores, setting) for scores in parts.values()]
    return effects(pd.concat(found, keys=parts, names=["scores"]).reset_index("scores"))


def by_method(results: Path) -> pd.DataFrame:
    """For each task and method: seeds, mean validation score over the first half of the steps and at the end; and how many students
    ever get more than half of the validation rows right, and the median step at which they first do. Not of ROUGE, by which no row
    is right or wrong."""
    metrics = grid(results)
    rows, keys = curves(metrics), ["task", "method", "floor"]
    last = rows[rows.step == rows.groupby("task").step.transform("max")]
    above = rows[(rows.value > 0.5) & (rows.metric != "rouge_l")].groupby([*keys, "seed"], dropna=False).step.min()
    above = above.groupby(keys, dropna=False)
    table = rows.groupby(keys, dropna=False).seed.nunique().to_frame("seeds")
    table["first half"] = early(metrics).groupby(keys, dropna=False).value.mean()
    table["end"] = last.groupby(keys, dropna=False).value.mean()
    table["students above one half"] = above.size().reindex(table.index, fill_value=0)
    table["median step of the first"] = above.median().reindex(table.index).map("{:g}".format, na_action="ignore")
    return in_plain_words(table)


def table_2(results: Path) -> pd.DataFrame:
    """Table 2: median seconds a step of each method in the runs; how many steps of KD and of on-policy KD that is (mean over the
    seeds that both have of the ratio of their medians); and the share of it that writing takes."""
    switches = with_settings(results, "switches")
    by_seed = switches.groupby(["trained_on", "method", "seed"]).step_seconds.median()
    table = switches.groupby(["trained_on", "method"]).step_seconds.median().to_frame("seconds")
    for other in ("kd", "onpolicy"):
        if other in switches.method.values:
            ratios = by_seed / by_seed.xs(other, level="method").reindex(by_seed.index.droplevel("method")).to_numpy()
            table[f"of {other}"] = ratios.groupby(["trained_on", "method"]).mean()
    share = switches.assign(share=switches.write_seconds / switches.step_seconds)
    table["share of writing"] = share.groupby(["trained_on", "method"]).share.median()
    return in_plain_words(table)


def benchmark(results: Path) -> pd.DataFrame:
    """Seconds a step where methods take turns, out of `make bench`; empty where it was not run for this preset."""
    file = results.parent / "bench" / f"training_{results.name}.csv"
    if not file.is_file():
        return pd.DataFrame(columns=["task"])
    times = pd.read_csv(file)
    return in_plain_words(times.assign(method=times.method.map(lambda name: ", ".join(map(label, name.split(", "))))))


def _plus_minus(interval: Interval) -> str:
    half = "" if interval.low != interval.low else f" ± {interval.high - interval.mean:.3f}"
    return f"{interval.mean:.3f}{half}"
