"""The paper's claims against our runs: effect, interval and verdict, from the results alone. No torch.

A claim is a list of comparisons, of which each speaks for it where it is positive. P-values are corrected over the comparisons
of a claim (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from adaswitch_lib.experiments.records import read_table
from adaswitch_lib.experiments.table_files import write_table
from adaswitch_lib.experiments.tasks import TASKS
from adaswitch_lib.report import lane
from adaswitch_lib.report.plot_style import floor_label, in_order, label, with_floor
from adaswitch_lib.report.scores import BASELINES, CONTROLS, curves, early, final, grid, held_out, leads, out_of_reach, study
from adaswitch_lib.report.statistics import Interval, holm, over_seeds, paired, unpaired
from adaswitch_lib.report.switches import of_adaswitch
from adaswitch_lib.report.tables import markdown
from adaswitch_lib.report.tables.form import in_words

CLAIMS = {
    "C1": ("AdaSwitch ends above SFT, SeqKD, KD, on-policy KD and SKD on every task", "paper"),
    "C2": ("it ends above on-policy KD and SKD under other divergences, too", "paper"),
    "C3": ("harder tasks switch more", "paper"),
    "C4": ("switch rate and divergence at the switch fall as the student learns", "paper"),
    "C5": ("AdaSwitch leads the methods of C1 already in the early stage", "paper"),
    "C6": ("a step costs 1.2 to 1.4 times one of KD, and less than one of SKD", "paper, others"),
    "KL": ("its student is closer to the teacher on held-out text than those of C1 (secondary outcome)", "ours"),
    "Q": ("it ends above permuted switch positions, fixed ones, no suffix, and the teacher's text alone", "ours"),
    "F": ("with a floor under the threshold C1, C4, C5 and Q hold as well", "ours"),
}
"""What is claimed, and by whom. C1, C4, C5, KL and Q are of AdaSwitch with floor = 0, the paper's formula; F is of the same
comparisons where validation chose a floor."""

COST_RANGE = (1.2, 1.4)
HOLDS, FAILS, UNDECIDED, NOT_MEASURED = "holds", "fails", "not decided", "not measured"
MARGINS = {"rouge_l": (0.01, "a lead above 1 ROUGE point is excluded")}
FIVE_POINTS = (0.05, "a lead above 5 points is excluded")
EXCLUDED = (FIVE_POINTS[1], MARGINS["rouge_l"][1])


class Finding(NamedTuple):
    """One comparison.

    Attributes:
        effect: positive values speak for the claim.
        scored: whether it is a difference of the task's scores, of which a lead can be excluded.
        verdict: where it does not follow from the effect alone.
        apart: why it cannot decide anything ("out of reach", "at its ceiling"); it is counted apart.
    """

    claim: str
    task: str
    comparison: str
    effect: Interval
    scored: bool = False
    verdict: str | None = None
    apart: str | None = None


def table(results: Path) -> pd.DataFrame:
    """Every comparison that the results can speak to: claim, task, comparison, mean, low, high, n, hodges_lehmann, p_holm,
    p_equivalent, verdict.

    Verdicts: "holds" or "fails" where the corrected p-value is below 0.05; else that a lead above 5 points (of ROUGE: 1) is
    excluded, where the 95 % interval ends below it; else "not decided". `p_equivalent` is that of a difference outside of these
    points either way (TOST).
    """
    return _judged(sorted(_findings(results), key=lambda finding: list(CLAIMS).index(finding.claim)))


def lane_table(results: Path) -> pd.DataFrame:
    """The same for the lane, whose tasks are the γ of its chart: C1 (on-policy KD and SKD) and Q (permuted switches and the
    teacher's text alone) by the log of the KL on the student's own text."""
    return _judged([*_lane_findings(lane.scores(results))])


def _judged(found: Sequence[Finding]) -> pd.DataFrame:
    frame = pd.DataFrame([{**finding._asdict(), **finding.effect._asdict()} for finding in found])
    if frame.empty:
        return frame
    judged = frame.p.mask(frame.apart.notna() | frame.verdict.notna())
    frame["p_holm"] = judged.groupby(frame.claim).transform(holm)
    margins = [MARGINS.get(TASKS[finding.task].metric, FIVE_POINTS) if finding.scored else None for finding in found]
    frame["p_equivalent"] = [
        finding.effect.outside(margin[0]) if margin else float("nan") for finding, margin in zip(found, margins, strict=True)
    ]
    frame["verdict"] = [_verdict(line, margin) for line, margin in zip(frame.itertuples(), margins, strict=True)]
    frame["task"] = frame.task.map(label)
    columns = "claim task comparison mean low high n hodges_lehmann p_holm p_equivalent verdict"
    return frame[columns.split()]


def verdicts(frame: pd.DataFrame) -> pd.DataFrame:
    """One line a claim. It holds where all of its comparisons hold, and fails where one fails; so beside the verdict stands the
    comparison that decides it, the least favourable one, and how many come out how.

    Args:
        frame: of `table`.
    """
    order = [FAILS, *EXCLUDED, UNDECIDED, HOLDS]
    lines = []
    for claim, (says, source) in CLAIMS.items():
        rows = frame[frame.claim == claim] if len(frame) else pd.DataFrame(columns=["verdict"])
        judged = rows[rows.verdict.isin(order)].sort_values("verdict", key=lambda names: names.map(order.index), kind="stable")
        line = {"claim": claim, "what it says": says, "source": source, "verdict": NOT_MEASURED, "decided by": "–", "effect": "–"}
        if len(judged):
            least = judged[judged.verdict == judged.verdict.iloc[0]].sort_values("high").iloc[0]
            task = "" if least.task in least.comparison else f", {least.task}"
            line |= {"verdict": least.verdict, "decided by": least.comparison + task}
            line["effect"] = in_words(least["mean"], least.low, least.high)
        counts = rows.verdict.value_counts()
        shown = [name for name in [HOLDS, *order[:-1], *counts.index.difference(order)] if name in counts]
        line["comparisons"] = "; ".join(f"{name}: {counts[name]}" for name in shown) or "–"
        lines.append(line)
    return pd.DataFrame(lines)


def by_world(tables: Sequence[pd.DataFrame], lane: pd.DataFrame) -> pd.DataFrame:
    """A row a claim, a column a task: its verdict, and the effect of the least favourable comparison; of the lane, verdicts by γ.

    Args:
        tables: of `table`; a task that is nowhere judged has no column.
        lane: of `lane_table`.
    """
    columns = {}
    for task, rows in (group for frame in tables for group in frame.groupby("task", sort=False)):
        lines = verdicts(rows).set_index("claim")
        if (lines.verdict != NOT_MEASURED).any():
            columns[task] = (lines.verdict + ": " + lines.effect).mask(lines.verdict == NOT_MEASURED, "–")
    by_gamma = pd.DataFrame({task: verdicts(rows).set_index("claim").verdict for task, rows in lane.groupby("task", sort=False)})

    def in_words(line: pd.Series) -> str:
        alike = line[line != NOT_MEASURED].groupby(line, sort=False)
        return "; ".join(f"{verdict} at γ = {', '.join(same.index.str.removeprefix('γ = '))}" for verdict, same in alike) or "–"

    return pd.DataFrame(columns).assign(**{"the lane": by_gamma.apply(in_words, axis=1)}).reset_index()


def sentences(results: Path, *claims: str) -> list[str]:
    """What came out for some claims, one text each."""
    lines = verdicts(table(results)).set_index("claim").loc[list(claims)]
    found = []
    for claim, line in lines.iterrows():
        least = f" The least favourable comparison is {line['decided by']}: {line.effect}." if line.effect != "–" else ""
        counts = f" Of all comparisons: {line.comparisons}." if line.comparisons != "–" else ""
        found.append(f"{claim} ({line['what it says']}): **{line.verdict}**.{least}{counts}")
    return found


def save(results: Path) -> pd.DataFrame:
    """Write `claims.csv` (every comparison) and `claims.md` (verdicts, then every comparison); returns the verdicts."""
    frame = table(results)
    words = verdicts(frame)
    write_table(frame, results / "claims.csv", preset=results.name)
    head = ["# The paper's claims in our runs", HOW_TO_READ.format(preset=results.name), markdown(words), _runs_in_words(results)]
    (results / "claims.md").write_text("\n\n".join([*head, markdown(frame)]) + "\n", encoding="utf-8")
    return words


HOW_TO_READ = """\
Made by code from the results of preset {preset}. Positive effects speak for the claim. Effects are paired by seed (C3: Welch's t,
since the seeds of two tasks share nothing), with 95 % intervals. A comparison holds or fails where p < 0.05, corrected over the
comparisons of its claim (Holm); else a lead above 5 points (of ROUGE: 1) is excluded where the interval ends below it.
`p_equivalent` is the p-value of a difference of more than these points either way (TOST); `hodges_lehmann` is the median of all
pairwise means, which one unusual student moves little. Tasks that all students fail are out of reach, and a switch rate is at its
ceiling where 99 % of the texts switch, first and last: neither can decide anything, and both are counted apart. C3 is judged only
where it is known which task is harder. The early stage (C5) is the first half of the steps. Seconds (C6) are those of `make bench`,
where methods take turns."""


def _runs_in_words(results: Path) -> str:
    """How many runs there are, and how many of them went wrong; none is left out of the tables."""
    runs, metrics = read_table(results, "runs"), read_table(results, "metrics")
    by_run = curves(metrics).sort_values("step").groupby("run").value
    fell = (by_run.last() < by_run.first()).sum()
    return (
        f"Of {len(runs)} runs, studies included, {runs.collapsed.sum()} collapsed (NaN or infinite logits), and {fell} ended below "
        "the validation score of their initial student."
    )


def _verdict(line, margin: tuple[float, str] | None) -> str:
    for given in (line.apart, line.verdict):
        if isinstance(given, str):
            return given
    if line.p_holm < 0.05:
        return HOLDS if line.mean > 0 else FAILS
    return margin[1] if margin and line.high < margin[0] else UNDECIDED


def _findings(results: Path) -> Iterator[Finding]:
    metrics, switches = grid(results), of_adaswitch(results)
    scores, other_losses = final(metrics), final(study(results, "divergences")).query("loss != 'forward_kl'")
    yield from _beats("C1", BASELINES, scores)
    for loss in in_order(other_losses.loss):  # floors have another unit under each: one list
        rows = other_losses[other_losses.loss == loss]
        yield from _beats("C2", ("onpolicy", "skd"), rows.assign(floor=0.0 * rows.floor), f", under {label(loss)}")
    yield from _harder_tasks_switch_more(scores, switches)
    yield from _falls(switches)
    yield from _beats("C5", BASELINES, early(metrics), ", first half")
    yield from _cost(results)
    yield from _closer(held_out(metrics))
    yield from _beats("Q", CONTROLS, scores)


def _beats(claim: str, others: Sequence[str], scores: pd.DataFrame, note: str = "") -> Iterator[Finding]:
    """AdaSwitch minus each of the others, with floor = 0 for the claim and with a floor for F."""
    apart = out_of_reach(scores)
    for line in leads(scores[scores.method.isin([*others, "adaswitch"])]).itertuples():
        comparison = f"{with_floor('adaswitch', line.floor or float('nan'))} − {label(line.against)}{note}"
        effect = Interval(*(getattr(line, name) for name in Interval._fields))
        reach = "out of reach" if line.task in apart else None
        yield Finding("F" if line.floor else claim, line.task, comparison, effect, scored=True, apart=reach)


def _closer(divergences: pd.DataFrame) -> Iterator[Finding]:
    """By how much the divergence of AdaSwitch's student, with floor = 0, is below that of each other method's."""
    rows = divergences[divergences.method.isin([*BASELINES, "adaswitch"]) & ~(divergences.floor > 0)]
    for line in leads(rows.assign(value=-rows.value)).itertuples():
        effect = Interval(*(getattr(line, name) for name in Interval._fields))
        yield Finding("KL", line.task, f"KL on held-out text [nats], {label(line.against)} − AdaSwitch", effect)


def _harder_tasks_switch_more(scores: pd.DataFrame, switches: pd.DataFrame) -> Iterator[Finding]:
    """With each floor that AdaSwitch has on two tasks: how much less it solves of one, the harder, at the end, and how much more it
    switches there. Where the former is not significant, the latter decides nothing."""
    ours = scores[(scores.method == "adaswitch") & (scores.task == scores.trained_on)]
    for floor, rows in ours.groupby("floor"):
        ends = rows.groupby("task").value.mean().sort_values().index
        if len(ends) != 2:
            continue
        harder, easier = ends
        gap = unpaired(*(rows.value[rows.task == task] for task in (easier, harder)))
        yield Finding("C3", harder, f"score on {label(easier)} − on {label(harder)}, {floor_label(floor)}", gap)
        rates = switches[switches.floor == floor].groupby(["trained_on", "seed"]).switch_rate.mean()
        comparison = f"switch rate on {label(harder)} − on {label(easier)}, {floor_label(floor)}"
        verdict = None if gap.p < 0.05 else UNDECIDED
        yield Finding("C3", harder, comparison, unpaired(rates[harder], rates[easier]), verdict=verdict)


def _falls(switches: pd.DataFrame) -> Iterator[Finding]:
    """From the first to the last tenth of the steps; the divergence is a mean over the texts that switch."""
    for (task, floor), rows in switches.groupby(["trained_on", "floor"]):
        part = pd.cut(rows.step / rows.step.max(), [0, 0.1, 0.9, 1], labels=["first", "between", "last"])
        rate = rows.groupby(["seed", part], observed=True).switch_rate.mean().unstack()
        sums = rows.assign(summed=rows.switch_divergence * rows.switch_rate).groupby(["seed", part], observed=True)
        divergence = (sums.summed.sum() / sums.switch_rate.sum()).unstack()
        note = "first − last tenth of the steps" + (f", {floor_label(floor)}" if floor else "")
        for wide, what in ((rate, "switch rate"), (divergence, "KL at the switch [nats]")):
            if {"first", "last"} <= set(wide):
                full = wide is rate and (wide[["first", "last"]].mean() > 0.99).all()
                effect = _difference(wide, "first", "last")
                yield Finding("F" if floor else "C4", task, f"{what}, {note}", effect, apart="at its ceiling" if full else None)


def _cost(results: Path) -> Iterator[Finding]:
    """From the benchmark, where methods take turns; the runs' own times hang on what else the machine did."""
    file = results.parent / "bench" / f"training_seconds_{results.name}.csv"
    if not file.is_file():
        return
    for task, rows in pd.read_csv(file).groupby("task"):
        seconds = rows.groupby(["turn", "method"]).seconds.median().unstack()
        ratio = over_seeds(seconds.adaswitch / seconds.kd)
        inside = COST_RANGE[0] <= ratio.low and ratio.high <= COST_RANGE[1]
        outside = ratio.high < COST_RANGE[0] or ratio.low > COST_RANGE[1]
        verdict = HOLDS if inside else FAILS if outside else UNDECIDED
        yield Finding("C6", task, "seconds a step, AdaSwitch / KD (1.2 to 1.4)", ratio, verdict=verdict)
        yield Finding("C6", task, "seconds a step, SKD − AdaSwitch", _difference(seconds, "skd", "adaswitch"))


def _lane_findings(runs: pd.DataFrame) -> Iterator[Finding]:
    for cell in lane.CHART:
        wide = lane.by_seed(lane.of_cell(runs, cell), "log_kl")
        for name in wide.columns.intersection(["onpolicy", "skd", "random", "offpolicy"], sort=False):
            comparison = f"log KL on own text, {label(name)} − AdaSwitch"
            effect = paired(wide[name], wide["adaswitch"])
            yield Finding("C1" if name in BASELINES else "Q", f"γ = {cell.gamma:g}", comparison, effect)


def _difference(wide: pd.DataFrame, one: str, other: str) -> Interval:
    both = wide[[one, other]].dropna()
    return paired(both[one], both[other])
