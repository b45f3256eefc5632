"""What came out, in a few sentences a notebook, written from the results: numbers and verdicts are theirs. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from adaswitch_lib.experiments.lane.grid import SEEDS, WRITERS
from adaswitch_lib.experiments.records import read_table
from adaswitch_lib.report import lane, tables
from adaswitch_lib.report.claims import sentences
from adaswitch_lib.report.display import Markdown, cells
from adaswitch_lib.report.plot_style import floor_label, in_order, label, with_floor
from adaswitch_lib.report.scores import final, first_half, grid, held_out, leads, mean_over_steps, out_of_reach, study
from adaswitch_lib.report.tables.form import in_words


def main_results(results: Path) -> Markdown:
    """Of the test scores: who has the best mean, AdaSwitch against on-policy KD, and what else is significant."""
    scores = final(grid(results))
    failed, best = out_of_reach(scores), []
    for task in (task for task in in_order(scores.task) if task not in failed):
        by_method = scores[scores.task == task].groupby(["method", "floor"], dropna=False).value
        means = by_method.mean()[by_method.size() == by_method.size().max()]
        best.append(f"{means.max():.3f} on {label(task)} ({with_floor(*means.idxmax())})")
    lines = [f"The best mean is {' and '.join(best)}." if best else ""]
    lines += [f"All students fail on {label(task)}: it says nothing of methods." for task in in_order(failed)]
    against = [
        line
        for line in leads(scores).to_dict("records")
        if line["p_holm"] < 0.05 or (line["against"] == "onpolicy" and line["task"] not in failed)
    ]
    lines += [
        f"AdaSwitch minus {label(line['against'])}, {with_floor(line['task'], line['floor'])}: {_effect(line)}." for line in against
    ]
    return _text([*sentences(results, "C1"), *lines, "No other difference from AdaSwitch is statistically significant."])


def divergences(results: Path) -> Markdown:
    """Of students that learn by other divergences."""
    scores = final(study(results, "divergences"))
    means = scores.groupby("loss").value.mean()
    listed = ", ".join(f"{label(loss)} {means[loss]:.3f}" for loss in in_order(scores.loss))
    return _text([*sentences(results, "C2"), f"Mean test score over methods and seeds: {listed}." if listed else ""])


def switch_rate(results: Path) -> Markdown:
    """Of how often the teacher takes over."""
    return _text([*_switching(results), *sentences(results, "C3", "C4")])


def divergence_at_the_switch(results: Path) -> Markdown:
    """Of the divergence where the teacher takes over."""
    lines = [
        f"On {task}, {floor}, KL at the switch is {first['KL at the switch [nats]']:.2f} nats in the first tenth of the steps and "
        f"{last['KL at the switch [nats]']:.2f} in the last."
        for task, floor, first, last in _first_and_last(results)
    ]
    return _text([*lines, *sentences(results, "C4")])


def early_stage(results: Path) -> Markdown:
    """Of the first half of the steps, and of how many students learn the task at all."""
    table = tables.by_method(results)
    lines = [*sentences(results, "C5")]
    for task in table.task.unique():
        rows = table[(table.task == task) & table.method.str.contains("AdaSwitch|On-policy KD")]
        means = (f"{row['method']} {row['first half']:.3f} and {row['end']:.3f}" for row in rows.to_dict("records"))
        lines.append(f"Mean validation scores on {task}, first half and end: {'; '.join(means)}.")
    return _text(lines)


def cost(results: Path) -> Markdown:
    """Of what a step costs."""
    memory = read_table(results, "runs").peak_memory_mb.max()
    lines = [*sentences(results, "C6"), f"Peak memory of a process that makes runs: {memory:.0f} MB."]
    for row in tables.table_2(results).to_dict("records"):
        if row["method"] == label("adaswitch") and "steps of KD" in row:
            steps, writing = f"{row['steps of KD']:.2f} steps of KD", _percent(row["share of writing"])
            lines.append(f"In the runs on {row['task']} a step of AdaSwitch takes as long as {steps}; writing is {writing} of it.")
    return _text(lines)


def rules(results: Path) -> Markdown:
    """Of K, L, `min_history` and the floor."""
    tried, lines = tables.rules(results), []
    for row in tables.rules_pooled(results).to_dict("records"):
        rates = tried[tried.task == row["task"]]["texts that switch"]
        low, high = _percent(rates.min()), _percent(rates.max())
        lines += [
            f"On {row['task']}, {row['rules']} rules were tried, under which {low} to {high} of the texts switch. Their mean test "
            f"scores lie between {row['lowest mean']:.3f} and {row['highest mean']:.3f}.",
            f"The differences between rules are {_significance(row['p'])}.",
            f"Pooled over all rules, neither rule nor seed explains a standard deviation of {row['unexplained sd']:.4f}: with "
            f"{row['seeds']} seeds, two rules that differ by {100 * row['detectable difference']:.1f} points would show.",
        ]
    return _text(lines or ["No rules were tried with enough seeds to compare them."])


def controls(results: Path) -> Markdown:
    """Of whether it matters where the teacher takes over: for the texts, and for the students."""
    metrics = grid(results)
    metrics = metrics[metrics.method.isin(["adaswitch", "random"])]
    texts = leads(mean_over_steps(first_half(metrics[metrics.metric.str.startswith("written_")])))
    students = {(line["task"], line["floor"]): line for line in leads(final(metrics)).to_dict("records")}
    lines = [*sentences(results, "Q")]
    for line in texts.to_dict("records"):
        of_texts, of_students = _effect(line), _effect(students[line["task"], line["floor"]])
        lines.append(
            f"On {with_floor(line['task'], line['floor'])}, AdaSwitch minus permuted switches: {of_texts} in the score of the "
            f"texts, first half of the steps; {of_students} in the students' test score."
        )
    return _text(lines)


def real_llm(results: Path) -> Markdown:
    """Of a real LLM: scores, closeness to the teacher, and the switch."""
    metrics = grid(results)
    both = metrics[metrics.method.isin(["adaswitch", "onpolicy"])]
    outcomes = {"test score": final(both), "KL on held-out text (secondary outcome, lower is better)": held_out(both)}
    lines = [
        f"AdaSwitch minus on-policy KD, {outcome}, {line['n']} seeds: {_effect(line)}."
        for outcome, rows in outcomes.items()
        for line in leads(rows).to_dict("records")
    ]
    return _text([*lines, *_switching(results), *sentences(results, "C4")])


def why(results: Path) -> Markdown:
    """Of the paper's premises: exposure bias, poor on-policy text, and a switch that finds mistakes."""
    world, chance = cells(tables.world(results)).set_index("measured"), tables.against_chance(results)
    lines = []
    for task in world.columns[world.loc["KD on own text [nats]"] != "–"]:
        values = world[task]
        lines.append(
            f"On {task} KD's students end at {values['KD on own text [nats]']} nats from the teacher on their own text and at "
            f"{values['KD on the data [nats]']} on the data; before the first step on-policy text scores "
            f"{values['first text, on-policy KD']}, AdaSwitch's {values['first text, AdaSwitch']}."
        )
    for row in chance[chance.third == "first"].to_dict("records") if len(chance) else []:
        hits, of_all, permuted = (
            _percent(row[name])
            for name in ("of those that switch", "at the first wrong word, of all", "of those that switch (permuted)")
        )
        lines.append(
            f"On {row['task']}, in the first third of the steps, the rule switches in {row['switch']:.0f} of {row['texts']} texts: "
            f"at the first wrong word in {hits} of these, which is {of_all} of all texts; permuted positions hit it in {permuted} "
            "of the texts in which they switch."
        )
    return _text(lines)


def the_lane(folder: Path) -> Markdown:
    """Of the lane: who wins at which γ, and how AdaSwitch's lead changes with γ."""
    runs = lane.scores(folder)
    if runs.empty:
        return _text(["No seed is complete yet: `python -m adaswitch_lib lane` goes on."])
    lines = [f"Complete seeds: {runs.seed.nunique()} of the {len(SEEDS)} that were planned."]
    for line in lane.winners(runs).to_dict("records"):
        leader, certain = WRITERS[line["leader"]].label, _significance(line["p"])
        won = f"{leader} wins" if line["wins"] else f"nobody wins; {leader} has the lowest mean KL"
        lines.append(f"At γ = {line['gamma']:g} {won}. The least certain of its leads is {certain}.")
    for line in lane.interaction(runs).to_dict("records"):
        lines.append(
            f"Slope over γ, up to {lane.SLOPED[-1]:g}, of AdaSwitch minus {label(line['against'])}, log KL: {_effect(line)}."
        )
    return _text(lines)


def the_advice(folder: Path) -> Markdown:
    """Of the advice of SmolLM2's teacher on the student's text, and where that lies on the lane's chart."""
    found = lane.advice(folder)
    lines = []
    for line in found[found.world == lane.REAL].to_dict("records"):
        share = "{:.0f} % [{:.0f}, {:.0f}]".format(*(100 * line[name] for name in ("kept", "low", "high")))
        entropy = "{data:.2f} nats on the data, {teacher:.2f} on its own text, {student:.2f} on the student's".format(**line)
        lines.append(
            f"{label(lane.REAL)}, after {line['tokens']} tokens ({line['n']} texts): the teacher's entropy is {entropy}, "
            f"where it keeps {share} of the score of what it adds."
        )
    after = found[found.tokens == lane.AFTER].set_index("world")
    others = after[after.index != lane.REAL]
    if lane.REAL in after.index and len(others):
        gammas = others.index.str.removeprefix("lane ")
        shares = ", ".join(f"{100 * kept:.0f} % at γ = {gamma}" for gamma, kept in zip(gammas, others.kept, strict=True))
        within = gammas[others.kept.between(*after.loc[lane.REAL, ["low", "high"]])]
        lines.append(f"The lane's teachers keep {shares}, after {lane.AFTER} tokens.")
        lines.append(f"The interval of {label(lane.REAL)} holds those at γ = {', '.join(within) or 'none of these'}.")
    return _text(lines or ["Not measured yet: `adaswitch continuations`."])


def when_it_pays(results: Path) -> Markdown:
    """Of the number of prompts, and of poorer initial students."""
    lines = []
    settings = {"num_prompts": ("prompts", "{:,} prompts"), "initial.steps": ("initial_students", "{} steps of SFT")}
    for setting, (name, what) in settings.items():
        found = leads(final(study(results, name)), setting).to_dict("records")
        for method in ("kd", "onpolicy"):
            effects = [f"{_effect(line)} with {what.format(line[setting])}" for line in found if line["against"] == method]
            lines += [f"AdaSwitch minus {label(method)}, test: {'; '.join(effects)}."] if effects else []
    return _text(lines or ["No such runs yet."])


def _text(sentences: Iterable[str]) -> Markdown:
    return Markdown("\n".join(f"- {sentence}" for sentence in sentences if sentence))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def _effect(line: dict) -> str:
    """Mean, interval, and whether it is significant."""
    return f"{in_words(line['mean'], line['low'], line['high'])} ({_significance(line['p_holm'])})"


def _significance(p: float) -> str:
    if p != p:
        return "not tested"
    shown = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return f"statistically significant, {shown}" if p < 0.05 else f"not significant, {shown}"


def _first_and_last(results: Path) -> Iterator[tuple[str, str, pd.Series, pd.Series]]:
    """Task, floor, and what AdaSwitch's switches did in the first and in the last tenth of the steps."""
    for (task, floor), rows in tables.tenths(results).groupby(["task", "floor [nats]"], sort=False):
        tenths = {row["steps"]: row for _, row in rows.iterrows()}
        if len(tenths) == 2:
            yield task, floor_label(float(floor)), tenths["first tenth"], tenths["last tenth"]


def _switching(results: Path) -> list[str]:
    return [
        f"On {task}, {floor}, {_percent(first['texts that switch'])} of the texts switch in the first tenth of the steps and "
        f"{_percent(last['texts that switch'])} in the last."
        for task, floor, first, last in _first_and_last(results)
    ]
