"""The paper's claims against our runs: effect, interval and verdict, made from the results alone. No torch.

Effects are paired by seed; p-values are corrected over all lines of a claim (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from adaswitch_lib.experiments.records import read_table, with_rules, with_settings, write_table
from adaswitch_lib.report.plot_style import LOOKS, METRICS, SCORES
from adaswitch_lib.report.statistics import Interval, holm, over_seeds, paired
from adaswitch_lib.report.tables import HEADLINE, by_rate, by_seed, early_scores, final_scores, markdown

CLAIMS = {
    "C1": ("AdaSwitch beats SFT, SeqKD, supervised KD, on-policy KD and SKD on every task", "T/S"),
    "C2": ("the gain holds under other distances", "T"),
    "C3": ("harder tasks switch more", "T"),
    "C4": ("switch rate and divergence at the switch fall as the student learns", "T"),
    "C5": ("AdaSwitch leads already in the early stage, where on-policy KD is weak", "T"),
    "C6": ("a step costs 1.2 to 1.4 times one of KD, and less than one of SKD", "T/S"),
    "B": ("where validation chose a floor: by the bare ratio AdaSwitch beats the methods of C1 and Q", "ours"),
    "B2": ("the same with five more students, who were trained when B had been seen", "ours"),
    "B3": ("by the bare ratio AdaSwitch beats on-policy KD, SKD and random switches: twenty more, by a plan made before", "ours"),
    "R": ("C2 with each method, under each distance, at the better of two learning rates, by validation", "ours"),
    "F": ("with the floor that validation chose, C4 holds as well", "ours"),
    "Q": ("left open: AdaSwitch beats other switch positions, a fixed share, no suffix, and the teacher's text alone", "ours"),
}
"""What is claimed, and where: T stated by the paper, S stated by others of it. Six are ours: B, B2 and B3 ask what our
floor does to C1 and Q (the bare ratio is the rule with no floor), R what our learning rate does to C2, F what the floor does to
C4, and Q whether it is the adaptive switch that helps."""

BASELINES = ("sft", "seqkd", "kd", "onpolicy", "skd")
CONTROLS = ("random", "fixed", "stop", "offpolicy")
PLANNED = ("onpolicy", "skd", "random")
COST_RANGE = (1.2, 1.4)
UNDECIDED, CEILING = "not decided", "at its ceiling"


class Finding(NamedTuple):
    """One measured line: positive values speak for the claim."""

    claim: str
    task: str
    what: str
    effect: Interval
    verdict: str | None = None
    """Set where it does not come from the interval's side of zero."""


def findings(results: Path) -> list[Finding]:
    """Every line that the results can speak to; a claim without the runs that it needs has none."""
    metrics, ruled = with_settings(results, "metrics"), with_rules(results, "switches")
    makers: list[Callable[[], Iterator[Finding]]] = [
        lambda: _beats(BASELINES, "C1", final_scores(metrics)),
        lambda: _under_other_distances("C2", final_scores(with_settings(results, "metrics", "metrics"))),
        lambda: _harder_tasks_switch_more(metrics, ruled),
        lambda: _falls(ruled),
        lambda: _beats(BASELINES, "C5", early_scores(metrics), "mean validation score of the first half"),
        lambda: _cost(results),
        lambda: _beats((*BASELINES, *CONTROLS), "B", final_scores(by_the_bare_ratio(results))),
        lambda: _beats((*BASELINES, *CONTROLS), "B2", final_scores(with_settings(results, "metrics", "fresh"))),
        lambda: _beats(PLANNED, "B3", final_scores(twenty_more(results))),
        lambda: _under_other_distances("R", final_scores(at_the_better_rate(two_rates(results)))),
        lambda: _beats(CONTROLS, "Q", final_scores(metrics)),
    ]
    return [finding for make in makers for finding in make()]


def by_the_bare_ratio(results: Path) -> pd.DataFrame:
    """Metrics of runs without a floor, where those of the grid have one, and of the grid's methods that have no rule."""
    bare = with_settings(results, "metrics", "floors", "bare").query("variant in ['floors.0.0', 'bare.0.0']")
    grid = with_settings(results, "metrics").query(
        "method not in ['adaswitch', 'random', 'stop'] and trained_on in @bare.trained_on"
    )
    return pd.concat([bare[grid.columns], grid])


def twenty_more(results: Path) -> pd.DataFrame:
    """Metrics of the preset `confirm`, which goes on from the study of fresh students; none for results that lack the study, and
    none before all twenty students of all four methods are there: by the plan nobody looks at some of them."""
    fresh, folder = with_settings(results, "metrics", "fresh"), results.parent / "confirm"
    if not len(fresh) or not (folder / "runs.csv").is_file():
        return fresh[:0]
    metrics = with_settings(folder, "metrics")
    students = metrics.groupby("method").seed.nunique().reindex([*PLANNED, "adaswitch"], fill_value=0)
    return metrics if students.min() == 20 else metrics[:0]


def two_rates(results: Path) -> pd.DataFrame:
    """Metrics of figure 3's 36 runs and, beside them, of the preset `half_rate`, which has the same runs at half of the rate; none
    for results that lack some of the former, and none before all of the latter are there: by the plan nobody looks at some."""

    def runs(metrics: pd.DataFrame) -> set[tuple]:
        return set(metrics[["loss", "method", "seed", "steps"]].itertuples(index=False, name=None))

    full, folder = with_settings(results, "metrics", "metrics"), results.parent / "half_rate"
    if folder == results or len(runs(full)) != 36 or not (folder / "runs.csv").is_file():
        return full[:0]
    half = with_settings(folder, "metrics", "metrics")
    return pd.concat([full, half]) if runs(half) == runs(full) else full[:0]


def at_the_better_rate(both: pd.DataFrame) -> pd.DataFrame:
    """Of `two_rates` the runs at the rate that validation chooses, for each method and loss."""
    return both.merge(by_rate(both).query("chosen")[["task", "loss", "method", "learning_rate"]])


def table(results: Path) -> pd.DataFrame:
    """All findings: claim, task, what, mean, low, high, n, p_holm, verdict ("holds", "fails", "not decided", "at its ceiling")."""
    found = findings(results)
    lines = [{"claim": f.claim, "task": LOOKS[f.task][2], "what": f.what, **f.effect._asdict()} for f in found]
    frame = pd.DataFrame(lines)
    if frame.empty:
        return frame
    frame["p_holm"] = frame.p.mask([f.verdict is not None for f in found]).groupby(frame.claim).transform(holm)
    sure = frame.p_holm < 0.05
    frame["verdict"] = [f.verdict or UNDECIDED for f in found]
    frame.loc[sure & (frame["mean"] > 0), "verdict"] = "holds"
    frame.loc[sure & (frame["mean"] < 0), "verdict"] = "fails"
    return frame.drop(columns="p")


def verdicts(frame: pd.DataFrame) -> pd.DataFrame:
    """One line a claim: what it says, who states it, and how many of our comparisons hold, fail or are not decided."""
    lines = []
    for claim, (says, grade) in CLAIMS.items():
        counts = frame[frame.claim == claim].verdict.value_counts() if len(frame) else pd.Series(dtype=int)
        holds, fails, total = (int(counts.get("holds", 0)), int(counts.get("fails", 0)), int(counts.sum()))
        if total == 0:
            word = "not measured"
        elif holds == total:
            word = "holds"
        elif fails == total:
            word = "fails"
        elif 0 < holds + fails < total / 2:
            word = "mostly not decided"
        elif holds and fails:
            word = "holds in part, fails in part"
        elif holds or fails:
            word = "holds in part" if holds else "fails in part"
        else:
            word = UNDECIDED
        count = f"{holds} of {total} hold, {fails} fail" if total else "–"
        count += f", {counts[CEILING]} at its ceiling" if CEILING in counts else ""
        lines.append({"claim": claim, "what it says": says, "source": grade, "verdict here": word, "comparisons": count})
    return pd.DataFrame(lines)


def sentence(results: Path, claim: str) -> str:
    """What came out for one claim, in words."""
    line = verdicts(table(results)).set_index("claim").loc[claim]
    return f"{claim}, {line['what it says']}. Here: {line['verdict here']} ({line['comparisons']})."


def save(results: Path) -> pd.DataFrame:
    """Write `claims.csv` (every line) and `claims.md` (verdicts, then every line) into the results; returns the verdicts."""
    frame = table(results)
    words = verdicts(frame)
    write_table(frame, results / "claims.csv", preset=results.name)
    counts = (
        with_settings(results, "metrics").groupby(["trained_on", "method"]).seed.nunique().groupby("trained_on").agg(["min", "max"])
    )
    seeds = ", ".join(f"{LOOKS[task][2]} {' to '.join(map(str, sorted({low, high})))}" for task, low, high in counts.itertuples())
    parts = [
        "# The paper's claims in our runs",
        f"Made by code from the results of preset {results.name}; seeds: {seeds}. Effects are paired by seed, with 95 %\n"
        "intervals; a line holds or fails where its p-value, corrected over all lines of its claim (Holm), is below 0.05.\n"
        "Positive values speak for the claim. A ratio of seconds holds where its interval lies within the range that is\n"
        "claimed, and fails where it lies outside; seconds are those of `make bench`, where methods take turns, n of them. C3 is\n"
        "measured with rules that AdaSwitch has on both tasks, and can be judged only where it is sure which task is harder, by\n"
        "AdaSwitch's scores; C4 by the bare ratio, as the formula stands, that is without a floor; B and F where validation chose\n"
        "one. A rate is at its ceiling where 99 % of the rows switch, first and last. The divergence at\n"
        "the switch is a mean over the rows that switch. Early (C5) is the first half of the steps, which is our choice. B3 is\n"
        "measured on the runs of preset confirm, R also on those of half_rate; they are not counted here.",
        markdown(words),
        _told_runs(results),
        markdown(frame),
    ]
    (results / "claims.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return words


def _told_runs(results: Path) -> str:
    """How many runs there are, and which of them went wrong; none is left out of the tables."""
    runs = read_table(results, "runs")
    metrics = read_table(results, "metrics").query("split == 'validation'")
    curves = metrics[metrics.metric == metrics.task.map(HEADLINE)].sort_values("step").groupby("run").value
    worse = curves.last()[curves.last() < curves.first()].index
    lists = {"collapsed (NaN or infinite logits)": runs.run[runs.collapsed], "ended below the score that they began with": worse}
    told = "; ".join(f"{what}: {', '.join(names) or 'none'}" for what, names in lists.items())
    return f"Of {len(runs)} runs, studies included, {told}."


def _beats(others: Sequence[str], claim: str, scores: pd.DataFrame, of: str = "") -> Iterator[Finding]:
    for task, wide in by_seed(scores):
        for other in others:
            if {"adaswitch", other} <= set(wide):
                what = f"AdaSwitch − {LOOKS[other][2]}, {of or SCORES[HEADLINE[task]]}"
                yield Finding(claim, task, what, _difference(wide, "adaswitch", other))


def _under_other_distances(claim: str, scores: pd.DataFrame) -> Iterator[Finding]:
    for loss in (name for name in METRICS if name in set(scores.loss) and name != "forward_kl"):
        for task, wide in by_seed(scores[scores.loss == loss]):
            for other in ("onpolicy", "skd"):
                if {"adaswitch", other} <= set(wide):
                    what = f"AdaSwitch − {LOOKS[other][2]} under {METRICS[loss]}, {SCORES[HEADLINE[task]]}"
                    yield Finding(claim, task, what, _difference(wide, "adaswitch", other))


def _harder_tasks_switch_more(metrics: pd.DataFrame, switches: pd.DataFrame) -> Iterator[Finding]:
    """The harder of two tasks is the one that AdaSwitch solves less of at the end: how much less, and a line for each rule that
    both have. Where the former is not sure, the rates decide nothing."""
    scores = (
        final_scores(metrics)
        .query("method == 'adaswitch' and task == trained_on")
        .pivot(index="seed", columns="task", values="value")
    )
    if len(scores.columns) != 2:
        return
    harder, easier = scores.mean().sort_values().index
    gap = _difference(scores, easier, harder)
    judged = None if gap.p < 0.05 else UNDECIDED
    lines = [Finding("C3", harder, f"harder: score of {LOOKS[easier][2]} − its own", gap)]
    for (floor, *_), some in switches.groupby(sorted(name for name in switches if name.startswith("rule."))):
        rates = some.groupby(["seed", "trained_on"]).switch_rate.mean().unstack()
        if {harder, easier} <= set(rates):
            what = f"switch rate − that of {LOOKS[easier][2]}, floor {floor:g}"
            lines.append(Finding("C3", harder, what, _difference(rates, harder, easier), judged))
    yield from lines if len(lines) > 1 else []


def _falls(ruled: pd.DataFrame) -> Iterator[Finding]:
    """C4 under the bare ratio, whether it is the task's own rule or a study's; F under the task's own floor."""
    ours = ruled[ruled.variant.isin(["", "floors.0.0"])]
    for (task, floor), some in ours.groupby(["trained_on", "rule.floor"]):
        part = pd.cut(some.step / some.step.max(), [0, 0.1, 0.9, 1], labels=["first", "between", "last"])
        rate = some.groupby(["seed", part], observed=True).switch_rate.mean()
        at_switch = some.assign(summed=some.switch_divergence * some.switch_rate).groupby(["seed", part], observed=True)
        divergence = at_switch.summed.sum() / at_switch.switch_rate.sum()
        for values, what in ((rate, "switch rate"), (divergence, "KL at the switch [nats]")):
            tenths = values.unstack()
            if {"first", "last"} <= set(tenths):
                what = f"{what}, first − last tenth of the steps, floor {floor:g}"
                full = values is rate and (tenths[["first", "last"]].mean() > 0.99).all()
                verdict = CEILING if full else None
                yield Finding("F" if floor else "C4", task, what, _difference(tenths, "first", "last"), verdict)


def _cost(results: Path) -> Iterator[Finding]:
    """From the benchmark, where methods take turns; the runs' own times hang on what else the machine did."""
    file = results.parent / "bench" / f"training_seconds_{results.name}.csv"
    if not file.is_file():
        return
    for task, some in pd.read_csv(file).groupby("task"):
        seconds = some.groupby(["turn", "method"]).seconds.median().unstack()
        ratio = over_seeds(seconds.adaswitch / seconds.kd)
        inside = COST_RANGE[0] <= ratio.low and ratio.high <= COST_RANGE[1]
        outside = ratio.high < COST_RANGE[0] or ratio.low > COST_RANGE[1]
        verdict = "holds" if inside else "fails" if outside else UNDECIDED
        yield Finding("C6", task, "seconds a step, AdaSwitch / KD (1.2 to 1.4)", ratio, verdict)
        yield Finding("C6", task, "seconds a step, SKD − AdaSwitch", _difference(seconds, "skd", "adaswitch"))


def _difference(wide: pd.DataFrame, one: str, other: str) -> Interval:
    both = wide[[one, other]].dropna()
    return paired(both[one], both[other])
