"""The tables of the paper, from our results. One function a table: tidy data in, a frame to show out. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from adaswitch_lib.experiments.records import write_table
from adaswitch_lib.report.plot_style import LOOKS, METRICS
from adaswitch_lib.report.statistics import holm, over_seeds, paired

HEADLINE = {
    "micro_gsm": "accuracy",
    "micro_gsm_plus": "accuracy",
    "micro_dialog": "all_facts",
    "dialogsum": "rouge_l",
    "gsm8k": "accuracy",
    "gsm_plus": "accuracy",
}
"""The metric of each task that figures and tables show, in their order."""


def final_scores(metrics: pd.DataFrame) -> pd.DataFrame:
    """The headline metric of each task on its test split: columns task, method, label, seed, value."""
    test = metrics[metrics.split == "test"]
    return test[test.metric == test.task.map(HEADLINE)]


def early_scores(metrics: pd.DataFrame) -> pd.DataFrame:
    """The headline metric of each task on validation rows, its mean over the examinations of the first half of the steps, without
    the one before the first: the columns of `final_scores`."""
    curves = metrics[(metrics.split == "validation") & (metrics.metric == metrics.task.map(HEADLINE)) & (metrics.step > 0)]
    early = curves[2 * curves.step <= curves.groupby("task").step.transform("max")]
    return early.assign(value=early.groupby(["run", "task"]).value.transform("mean")).drop_duplicates(["run", "task"])


def by_seed(scores: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each task with its scores as a frame [seed method]."""
    for task in (task for task in HEADLINE if task in set(scores.task)):
        yield task, scores[scores.task == task].pivot(index="seed", columns="method", values="value")


def main_results(metrics: pd.DataFrame, references: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 1: test score of every method on every task, mean ± half of the 95 % interval over seeds.

    A star marks the best method of a task where it beats every other, paired by seed (Holm over the task); a dagger marks
    methods that differ from AdaSwitch, by Holm's correction over the whole table. A method with fewer seeds than others says so:
    its mean is of other students, and is not compared.

    Args:
        metrics: of `records.with_settings`.
        references: of `records.reference_scores`: the teacher and the student before distillation, in rows of their own.
    """
    columns, scores = {}, final_scores(metrics)
    differences = paired_differences(scores)
    differs = (
        set(differences[differences.p_holm < 0.05][["task", "against"]].itertuples(index=False)) if len(differences) else set()
    )
    if references is not None:
        references = references[references.metric == references.task.map(HEADLINE)]
    for task, wide in by_seed(scores):
        found = {method: over_seeds(wide[method].dropna()) for method in LOOKS if method in wide}
        most = max(interval.n for interval in found.values())
        whole = [method for method in found if found[method].n == most]
        best = max(whole, key=lambda method: found[method].mean)
        alone = _differs(wide, best, [method for method in found if method != best])
        columns[LOOKS[task][2]] = {
            method: f"{_plus_minus(interval)}{' *' if method == best and all(alone.values()) and alone else ''}"
            f"{' †' if (task, method) in differs else ''}"
            if method in whole
            else f"{interval.mean:.3f} ({interval.n} of {most} seeds)"
            for method, interval in found.items()
        }
        if references is not None:
            for method, values in references[references.task == task].groupby("method").value:
                columns[LOOKS[task][2]][method] = _plus_minus(over_seeds(values))
    table = pd.DataFrame(columns)
    table = table.reindex([method for method in LOOKS if method in table.index])
    return table.rename(index=lambda method: LOOKS[method][2]).rename_axis("method").fillna("–")


def paired_differences(scores: pd.DataFrame, within: str | None = None) -> pd.DataFrame:
    """AdaSwitch minus every other method, paired by seed, with Holm's correction over all rows.

    Args:
        scores: of `final_scores` or `early_scores`.
        within: a column of settings; differences are then taken between runs that share its value.
    """
    lines = []
    for setting, some in scores.groupby(within) if within else [(None, scores)]:
        for task, wide in by_seed(some):
            for method in (name for name in LOOKS if name in wide and name != "adaswitch" and "adaswitch" in wide):
                both = wide[["adaswitch", method]].dropna()
                found = paired(both.adaswitch, both[method])
                line = {"task": task, "against": method, **found._asdict()}
                lines.append({within: setting} | line if within else line)
    table = pd.DataFrame(lines)
    return table.assign(p_holm=holm(table.p)) if len(table) else table


def by_rate(metrics: pd.DataFrame) -> pd.DataFrame:
    """Mean scores over seeds of each method and loss at each learning rate that it was run with.

    Args:
        metrics: of `records.with_settings` with a study.

    Returns:
        Columns task, loss, method, learning_rate, validation (mean of the last two examinations, as in `choosing`), test, and
        chosen: whether the rate is the best by validation; of equals the lower is.
    """
    keys = ["task", "loss", "method", "learning_rate"]
    curves = metrics[(metrics.split == "validation") & (metrics.metric == metrics.task.map(HEADLINE))].sort_values("step")
    last = curves.groupby([*keys, "seed"]).tail(2)
    parts = {"validation": last, "test": final_scores(metrics)}
    table = pd.DataFrame({name: some.groupby(keys).value.mean() for name, some in parts.items()}).reset_index()
    table = table.sort_values(
        keys[:-1], key=lambda names: names.map([*HEADLINE, *METRICS, *LOOKS].index), ignore_index=True, kind="stable"
    )
    best = table.assign(validation=table.validation.round(9)).groupby(keys[:-1]).validation.idxmax()  # equals, up to rounding
    return table.assign(chosen=table.index.isin(best))


def lost_to_forward_kl(rates: pd.DataFrame) -> pd.DataFrame:
    """By how much the mean test score under each other loss is below that under forward KL: where both have the highest rate, and
    where each has the one that validation chose.

    Args:
        rates: of `by_rate`.

    Returns:
        Columns task, loss, method, at the highest rate, at the chosen rates.
    """
    highest = rates.learning_rate == rates.groupby(["task", "loss", "method"]).learning_rate.transform("max")
    parts = {}
    for name, some in (("at the highest rate", rates[highest]), ("at the chosen rates", rates[rates.chosen])):
        test = some.set_index(["task", "loss", "method"]).test
        parts[name] = test.xs("forward_kl", level="loss") - test.drop("forward_kl", level="loss")
    return pd.DataFrame(parts).reorder_levels(["task", "loss", "method"]).reset_index()


def passing(metrics: pd.DataFrame) -> pd.DataFrame:
    """How many students of each method and task there are, how many of them get more than half of the validation rows right at some
    examination, and the median step of the first: columns task, method, students, passed, step. Of tasks whose rows are right or
    wrong."""
    curves = metrics[(metrics.split == "validation") & metrics.metric.isin(["accuracy", "all_facts"])]
    keys = ["task", "method"]
    first = curves[curves.value > 0.5].groupby([*keys, "seed"]).step.min().groupby(keys).agg(["size", "median"])
    table = curves.groupby(keys).seed.nunique().to_frame("students")
    table = table.assign(passed=first["size"].reindex(table.index, fill_value=0), step=first["median"]).reset_index()
    return table.sort_values(keys, key=lambda names: names.map([*LOOKS].index), ignore_index=True)


def world_fit(metrics: pd.DataFrame, references: pd.DataFrame) -> pd.DataFrame:
    """Whether there is something to decide: one column a task. Of tasks that students are not trained on, scores alone.

    Lines: test scores of the teacher, of students before, of the worst and the best method; the standard deviation between the
    methods' means, and that of AdaSwitch's paired differences from a method (median of the methods); at the first examination,
    the score of the text that on-policy KD and AdaSwitch learn from; at the last, KL(teacher ‖ student) of KD's students on
    their own text and on the data, nats.

    Args:
        metrics: of `records.with_settings`.
        references: of `records.reference_scores`.
    """
    lines = {}
    for task, wide in by_seed(final_scores(metrics)):
        looked = metrics[(metrics.trained_on == task) & (metrics.split == "validation")]
        of_task = references[(references.task == task) & (references.metric == HEADLINE[task])].groupby("method").value.mean()
        texts = looked.groupby(["method", "metric", "step"]).value.mean()
        first, last = looked.step.min(), looked.step.max()
        written = f"written_{HEADLINE[task]}"
        differences = wide.drop(columns="adaswitch", errors="ignore").rsub(wide.get("adaswitch", float("nan")), axis=0)
        lines[LOOKS[task][2]] = {
            "teacher": of_task.get("teacher"),
            "student before": of_task.get("start"),
            "worst method": wide.mean().min(),
            "best method": wide.mean().max(),
            "sd between methods": wide.mean().std(),
            "sd of paired differences": differences.std().median(),
            "first text, on-policy": texts.get(("onpolicy", written, first)),
            "first text, AdaSwitch": texts.get(("adaswitch", written, first)),
            "KD on own text [nats]": texts.get(("kd", "kl_own", last)),
            "KD on the data [nats]": texts.get(("kd", "kl_data", last)),
        }
    return pd.DataFrame(lines, dtype=float).rename_axis("measured")


def pooled(table: pd.DataFrame, keys: Sequence, shares: Mapping[str, str]) -> pd.DataFrame:
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


def cost(switches: pd.DataFrame) -> pd.DataFrame:
    """Table 2: median seconds a step of each method in the runs, and how many steps of KD and of on-policy KD that is: the mean
    over the seeds that both have of the ratio of their medians."""
    by_seed = switches.groupby(["seed", "method", "trained_on"]).step_seconds.median().unstack("seed")
    parts = {"seconds": switches.groupby(["method", "trained_on"]).step_seconds.median()}
    for name in ("kd", "onpolicy"):
        if name in by_seed.index:
            parts[f"of {name}"] = by_seed.div(by_seed.loc[name], level="trained_on").mean(axis=1)
    table = pd.concat([part.unstack().add_prefix(f"{what}, ") for what, part in parts.items()], axis=1)
    return table.reindex([method for method in LOOKS if method in table.index]).rename_axis("method")


def save(table: pd.DataFrame, folder: Path, name: str, caption: str, **settings) -> None:
    """Write `<name>` as CSV, Markdown and LaTeX (booktabs); in the latter two, what has a star is bold."""
    folder.mkdir(parents=True, exist_ok=True)
    starred = table.map(lambda cell: str(cell).removesuffix(" †").endswith(" *"))
    bold = table.mask(starred, "**" + table.astype(str) + "**")
    write_table(table.reset_index() if table.index.name else table, folder / f"{name}.csv", **settings)
    (folder / f"{name}.md").write_text(f"{markdown(bold)}\n\n{caption}\n", encoding="utf-8")
    latex = table.mask(starred, "BOLD" + table.astype(str) + "END").to_latex(
        float_format="%.3f", na_rep="–", caption=caption.replace("%", r"\%"), escape=True, index=bool(table.index.name)
    )
    for mark, command in {"†": r"$\dagger$", "±": r"$\pm$", "−": "$-$", "BOLD": r"\textbf{", "END": "}"}.items():
        latex = latex.replace(mark, command)
    (folder / f"{name}.tex").write_text(latex, encoding="utf-8")


def markdown(table: pd.DataFrame) -> str:
    """The table in Markdown, numbers with three digits, a dash where there is none."""
    shown = (table.reset_index() if table.index.name else table).astype(object)
    shown = shown.map(lambda value: "–" if pd.isna(value) else f"{value:.3f}" if isinstance(value, float) else str(value))
    rows = shown.itertuples(index=False)
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(map(str, shown.columns)), ["---"] * shown.shape[1], *rows])


def _plus_minus(interval) -> str:
    if interval.n < 3:  # no interval
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} ± {interval.high - interval.mean:.3f}"


def _differs(wide: pd.DataFrame, one: str, others: Sequence[str]) -> dict[str, bool]:
    """For each other method: is the paired difference from `one` apart from zero, with Holm's correction?"""
    pairs = [wide[[one, other]].dropna() for other in others]
    corrected = holm([paired(pair[one], pair[other]).p for pair, other in zip(pairs, others, strict=True)])
    return {other: p < 0.05 for other, p in zip(others, corrected, strict=True)}
