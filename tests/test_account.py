"""What `results/README.md`, the account of the reference run, tells in tables and in numbers is what the results say."""

import json
from pathlib import Path

import pandas as pd
import pytest

from adaswitch_lib import claims, tables
from adaswitch_lib.looks import LOOKS, METRICS
from adaswitch_lib.records import with_settings
from adaswitch_lib.statistics import over_seeds, paired
from adaswitch_lib.tasks import TASKS
from adaswitch_lib.tasks.micro_dialog import facts

ROOT = Path(__file__).parents[1]
RESULTS, TWENTY = (ROOT / "results" / name for name in ("micro", "confirm"))
README, ACCOUNT = ((ROOT / folder / "README.md").read_text() for folder in ("", "results"))


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / "tables" / f"{name}.csv")


def effect(line: pd.Series | tuple) -> str:
    mean, low, high = (getattr(line, name) if isinstance(line, tuple) else line[name] for name in ("mean", "low", "high"))
    return f"{mean:.3f} [{min(low, high):.3f}, {max(low, high):.3f}]".replace("-", "−")


def behind(leads: pd.Series) -> str:
    """How much AdaSwitch is behind, with its interval."""
    return effect(over_seeds(-leads))


def by_method(table: pd.DataFrame, corner: str) -> str:
    table = table.loc[[name for name in LOOKS if name in table.index]]
    return tables.markdown(table.rename(index=lambda name: LOOKS[name][2]).rename_axis(corner))


def bare_ratio() -> str:
    lines = read("bare_ratio")
    cells = lines.assign(cell=lines.apply(effect, axis=1)).pivot(index="against", columns="students", values="cell")
    return by_method(cells[lines.students.unique()], "lead over")


def poor_start() -> str:
    metrics = with_settings(RESULTS, "metrics", "starts")
    poor = metrics[metrics["start.steps"] == 30]
    scores = {"first half, validation": tables.early_scores(poor), "end, test": tables.final_scores(poor)}
    return by_method(pd.DataFrame({name: some.groupby("method").value.mean() for name, some in scores.items()}), "30 steps of SFT")


def other_rules() -> str:
    lines = read("limits")
    cells = lines.assign(cell=lines.apply(effect, axis=1)).pivot(index="minus K = 3", columns="scores", values="cell")
    return tables.markdown(cells[["validation, first half", "test, end"]])


def caught() -> str:
    first = read("against_chance").query("third == 'first'").set_index("task")
    lines = {}
    for task in first.index:
        for ours, prefix in (("", ""), (", dealt", "dealt_")):
            lines[f"{LOOKS[task][2]}{ours}"] = [
                f"{share:.0%}"
                for share in (
                    first.loc[task, prefix + "switch_at"],
                    first.loc[task, prefix + "switch_after"],
                    1 - first.loc[task, prefix + "switch_at"] - first.loc[task, prefix + "switch_after"],
                    first.loc[task, prefix + "caught"],
                )
            ]
    what = ["trips at the first wrong word", "trips after it", "trips before any", "of texts that go wrong, trips in time"]
    return tables.markdown(pd.DataFrame(lines, index=pd.Index(what, name="the rule")))


def controls() -> str:
    texts, ends = read("texts"), read("controls")
    texts = texts[texts.against.isin(["onpolicy", "skd", "random", "fixed"])]
    skd = tables.paired_differences(tables.final_scores(with_settings(RESULTS, "metrics"))).query("against == 'skd'")
    parts = {"texts": texts, "students": pd.concat([ends, skd])}
    cells = {
        f"{LOOKS[task][2]}: {name}": some[some.task == task].set_index("against").apply(effect, axis=1)
        for task in ("micro_gsm", "micro_dialog")
        for name, some in parts.items()
    }
    return by_method(pd.DataFrame(cells).loc[texts.against.unique()], "AdaSwitch minus")


def prompts() -> str:
    scores = tables.final_scores(with_settings(RESULTS, "metrics", "prompts"))
    cells = scores[scores.seed < 3].pivot_table("value", "method", "num_prompts")
    return by_method(cells.rename(columns="{:,}".format), "prompts")


def divergences() -> str:
    scores = tables.final_scores(with_settings(RESULTS, "metrics", "metrics"))
    cells = scores.pivot_table("value", "method", "loss").rename(columns=METRICS)
    return by_method(cells[[name for name in METRICS.values() if name in cells]], "learned and switched by")


def at_chosen_rates() -> str:
    rates = read("two_rates").query("chosen")
    cells = rates.pivot(index="method", columns="loss", values="test").rename(columns=METRICS)
    return by_method(cells[[name for name in METRICS.values() if name in cells]], "at the better rate")


def apart() -> str:
    scores = pd.concat(tables.final_scores(with_settings(RESULTS, "metrics", study)) for study in ("metrics", "apart"))
    ours = scores[scores.method == "adaswitch"].drop_duplicates("run")
    cells = ours.pivot_table("value", ours.loss.map(METRICS), ours.divergence.map(METRICS))
    names = [name for name in METRICS.values() if name in cells]
    return tables.markdown(cells.loc[names, names].rename_axis("learned by; switched by"))


def rules() -> str:
    lines = read("sensitivity").query("`rule.floor` == 0 and `rule.min_history` == 4")
    lines = lines.assign(cell=[f"{score:.3f}; {rate:.0%}" for score, rate in zip(lines.score, lines.switch_rate, strict=True)])
    cells = lines.pivot(index="rule.multiplier", columns="rule.window", values="cell")
    return tables.markdown(cells.rename(index="K = {:g}".format, columns="L = {:g}".format).rename_axis("score; rows that switch"))


def twenty() -> str:
    lines = claims.table(RESULTS).query("claim == 'B3'")
    leads = leads_of(tables.final_scores(with_settings(TWENTY, "metrics")))
    cells = {
        "final test score": [effect(line) for line in lines.itertuples()],
        "by Holm": [f"{p:.2f}" for p in lines.p_holm],
        "ahead with": [f"{(leads[name] > 0).sum()} of {len(leads)}" for name in claims.PLANNED],
        "median": [f"{leads[name].median():.3f}".replace("-", "−") for name in claims.PLANNED],
    }
    return by_method(pd.DataFrame(cells, index=list(claims.PLANNED)), "AdaSwitch minus")


def leads_of(scores: pd.DataFrame) -> pd.DataFrame:
    """AdaSwitch minus each method of the plan [seed method]."""
    wide = scores.pivot(index="seed", columns="method", values="value")
    return wide[list(claims.PLANNED)].rsub(wide.adaswitch, axis=0)


@pytest.mark.parametrize(
    "table", [bare_ratio, twenty, poor_start, other_rules, caught, controls, prompts, divergences, at_chosen_rates, apart, rules]
)
def test_a_table_of_the_account_is_what_the_results_say(table):
    assert table() in ACCOUNT


def test_how_often_the_rule_trips_from_a_poor_start_is_told_as_it_was():
    switches = with_settings(RESULTS, "switches", "starts", "limits").query("method == 'adaswitch' and step <= 20")
    first = switches[switches["start.steps"] == 30].groupby("variant").switch_rate.mean()
    assert f"{first['starts.30']:.0%} of the rows switch in the first tenth" in ACCOUNT
    assert f"{first['limits.K1.5']:.0%} and {first['limits.nats']:.0%} of the rows switch at first" in ACCOUNT


def test_the_floor_is_told_to_decide_nothing_on_the_test_split():
    parts = {"without it": claims.by_the_bare_ratio(RESULTS), "with it": with_settings(RESULTS, "metrics")}
    bare, floored = (
        tables.final_scores(some.query("method == 'adaswitch' and trained_on == 'micro_dialog'")).set_index("seed").value
        for some in parts.values()
    )
    interval = effect(pd.Series(paired(bare, floored[bare.index])._asdict()))
    assert f"AdaSwitch has {bare.mean():.3f} without it and {floored.mean():.3f} with it" in ACCOUNT.replace("\n", " ")
    assert interval in ACCOUNT


def test_the_leads_over_kd_are_told_for_every_number_of_prompts():
    lines = read("when_it_pays").query("scores == 'test, end' and against == 'kd'").set_index("num_prompts")["mean"]
    few, some, more, many = lines.sort_index()
    assert f"by {few:.2f}, {some:.2f} and {more:.2f} with the three smaller numbers" in ACCOUNT
    assert f"by {few:.2f} with 64 dialogues, by {some:.2f} and {more:.2f} with 256 and 512" in README and many < 0


def test_how_far_the_rules_part_is_told_as_it_was():
    lines = read("sensitivity")
    rates, scores = ((lines[name].min(), lines[name].max()) for name in ("switch_rate", "score"))
    assert f"these are {len(lines)} rules; they switch in {rates[0]:.0%} to {rates[1]:.0%} of the rows" in ACCOUNT
    assert f"end between {scores[0]:.3f} and {scores[1]:.3f}" in ACCOUNT
    assert f"by {len(lines)} rules {rates[0]:.0%} to {rates[1]:.0%} of the rows switch" in README.replace(" %", "%")


def test_how_good_texts_were_is_told_as_it_was():
    metrics = with_settings(RESULTS, "metrics").query("split == 'validation'")
    texts = metrics[metrics.metric == "written_" + metrics.task.map(tables.HEADLINE)]
    texts = texts[2 * texts.step <= texts.groupby("task").step.transform("max")].groupby(["task", "method"]).value.mean()
    gsm, dialogues = (texts[task] for task in ("micro_gsm", "micro_dialog"))
    account = ACCOUNT.replace("\n", " ")
    told = "{:.0%} of AdaSwitch's {}are right over the first half of the training and {:.0%} of SKD's"
    assert told.format(gsm.adaswitch, "", gsm.skd) in account
    assert told.format(gsm.adaswitch, "texts ", gsm.skd) in " ".join(README.replace(" %", "%").split())
    assert f"{dialogues.switch:.0%} of SWITCH's are right and {dialogues.adaswitch:.0%} of AdaSwitch's" in account
    scores = (
        tables.final_scores(with_settings(RESULTS, "metrics")).query("task == 'micro_gsm'").pivot(index="seed", columns="method")
    )
    assert (scores.value.skd > scores.value.adaswitch).all()


def test_single_effects_are_told_as_they_are():
    lines = claims.table(RESULTS).set_index(["claim", "task", "what"])
    harder = lines.loc[("C3", "micro GSM", "harder: score of micro dialogues − its own")]
    no_suffix = lines.loc[("Q", "micro GSM", "AdaSwitch − Stop at switch, accuracy")]
    assert effect(harder) in ACCOUNT and f"({effect(no_suffix)}, {no_suffix.p_holm:.3f} by Holm)" in ACCOUNT
    assert effect(lines.loc[("C1", "micro dialogues", "AdaSwitch − KD, all facts")]) in README
    scores = tables.final_scores(with_settings(RESULTS, "metrics", "metrics", "apart"))
    ours = scores[(scores.method == "adaswitch") & (scores.loss == "forward_kl")].pivot(
        index="seed", columns="divergence", values="value"
    )
    for name in ("jensen_shannon", "reverse_kl", "total_variation"):
        assert effect(pd.Series(paired(ours.forward_kl, ours[name])._asdict())) in ACCOUNT.replace("\n", " "), name


def test_mixtures_of_texts_are_told_apart_on_word_problems():
    scores = tables.final_scores(with_settings(RESULTS, "metrics")).query("task == 'micro_gsm'")
    wide = scores.pivot(index="seed", columns="method", values="value")
    for one, other in (("adaswitch", "gkd"), ("adaswitch", "switch"), ("imitkd", "adaswitch"), ("imitkd", "gkd")):
        assert effect(pd.Series(paired(wide[one], wide[other])._asdict())) in ACCOUNT, (one, other)
    over_gkd = tables.paired_differences(tables.final_scores(with_settings(RESULTS, "metrics"))).set_index(["task", "against"])
    line = over_gkd.loc[("micro_gsm", "gkd")]
    assert effect(line) in README and f"({line.p_holm:.2f} by Holm over table 1)" in ACCOUNT


def test_losses_are_told_to_differ_in_rate_too():
    scores = tables.final_scores(with_settings(RESULTS, "metrics")).query("task == 'micro_dialog' and seed < 3")
    gkd, imitkd = (scores[scores.method == name].value.mean() for name in ("gkd", "imitkd"))
    told = "GKD, by JSD, ends at {:.3f} with these three seeds, and ImitKD, the same mixture by forward KL, at {:.3f}"
    assert told.format(gkd, imitkd) in ACCOUNT.replace("\n", " ")
    tried = pd.read_csv(RESULTS / "choices.csv").query("task == 'micro_dialog' and method == 'gkd'").set_index("settings").score
    full, half = (tried[json.dumps({"learning_rate": rate})] for rate in (0.004, 0.002))
    assert f"GKD at the full rate had {full:.3f} of validation rows after 125 steps, where it had {half:.3f} at the half" in ACCOUNT


def test_what_readme_takes_from_the_account_is_in_both():
    controls = read("controls").query("against == 'random'").set_index("task")
    early = read("limits").query("scores == 'validation, first half'").set_index("minus K = 3").loc["limit of 1 nat"]
    texts = pd.read_csv(ROOT / "results/smollm2/tables/texts.csv").set_index("against")["mean"]
    for line in (controls.loc["micro_gsm"], controls.loc["micro_dialog"], early):
        assert effect(line) in README and effect(line) in ACCOUNT
    assert f"(by {texts.onpolicy:.3f})" in README and f"only {texts.random:.3f} behind (one seed)" in README
    caught = read("against_chance").query("third == 'first'").set_index("task").loc["micro_dialog"]
    assert f"in {caught.caught:.0%} (dealt: {caught.dealt_caught:.0%})" in README.replace(" %", "%")


def test_why_twenty_students_did_not_confirm_the_lead_is_told_as_it_was():
    account = " ".join(ACCOUNT.split())
    metrics = with_settings(TWENTY, "metrics")
    scores = tables.final_scores(metrics)
    leads, early = leads_of(scores), leads_of(tables.early_scores(metrics))
    for name in claims.PLANNED:  # of the twenty, and without the student that one may blame
        assert behind(leads[name].drop(14)) in account, name
    assert all(f"{value:.3f}" in account for value in (leads.std().min(), leads.std().max()))
    assert behind(early.skd) in README and f"SKD leads AdaSwitch by {behind(early.skd)} (0.025 by Holm over the three" in account
    assert f"{-early.skd.drop(14).mean():.3f} without seed 14)" in account
    assert tables.paired_differences(tables.early_scores(metrics)).set_index("against").p_holm.skd == pytest.approx(0.025, abs=5e-4)
    assert f"by {-early.onpolicy.mean():.3f} and {-early.random.mean():.3f}, not surely" in account

    ten = [claims.by_the_bare_ratio(RESULTS), with_settings(RESULTS, "metrics", "fresh").query("variant != ''")]
    parts = [tables.final_scores(some).query("task == 'micro_dialog'") for some in ten]
    thirty = pd.concat([*(some[some.method.isin(["adaswitch", *claims.PLANNED])] for some in parts), scores])
    assert thirty.groupby("method").seed.nunique().tolist() == [30] * 4 == thirty.groupby("method").size().tolist()
    for name, lead in leads_of(thirty).items():
        assert behind(lead) in account, name
    low = thirty[thirty.value < 0.5].groupby("method").seed.agg(set)
    assert low.str.len().to_dict() == {"adaswitch": 5, "onpolicy": 5, "skd": 5, "random": 4}
    assert len(low.adaswitch & low.onpolicy & low.skd) == 4 and low.adaswitch - low.onpolicy == {14}
    first, more = (leads_of(scores[scores.method.isin(["adaswitch", *claims.PLANNED])]) for scores in parts)
    share = first.loc[3] / pd.concat([first, more]).sum()
    assert f"over on-policy KD that start is {share.onpolicy:.0%}, over SKD {share.skd:.0%}" in account.replace(" %", "%")
    assert low.onpolicy - low.adaswitch == low.random - low.adaswitch == low.skd - low.adaswitch == {3}

    rows = TASKS["micro_dialog"].load("test", 500, 0)
    items = with_settings(TWENTY, "items")
    told = pd.DataFrame([facts(answer) for answer in items.answer], index=items.index)
    right = pd.DataFrame({fact: told[fact] == items.example.map(list(rows[fact]).__getitem__) for fact in told})
    assert (right.all(axis=1) == items.all_facts).all()
    shares = right.groupby(items.method).mean()
    assert f"in {100 * shares.who.min():.0f} to {100 * shares.who.max():.0f} %: it is what" in account
    assert shares.drop(columns="who").min(axis=None) > 0.95
    ends = items.groupby(["method", "seed"]).all_facts.mean() < 0.5
    who = right.who.groupby([items.method, items.seed]).mean()[ends]
    assert f"what {(who < 0.5).sum()} of the {ends.sum()} students lack that end below one half" in account
    where = right["where"][items.seed == 14].groupby(items.method).mean()
    assert f"has *where* right in {100 * where.adaswitch:.0f} % of the test rows, the others' in" in account
    assert f"the others' in {100 * where.drop('adaswitch').min():.1f} % or more" in account


def test_the_texts_and_switches_of_the_twenty_are_told_as_they_were():
    account = " ".join(ACCOUNT.split())
    texts = pd.read_csv(TWENTY / "tables" / "texts.csv").set_index("against")
    assert effect(texts.loc["onpolicy"]) in account and all(effect(texts.loc["random"]) in text for text in (account, README))
    leads = leads_of(tables.final_scores(with_settings(TWENTY, "metrics")))
    assert all(effect(over_seeds(leads[name])) in README for name in claims.PLANNED)
    written = with_settings(TWENTY, "metrics").query("metric == 'written_all_facts' and step <= 100")
    assert (leads_of(written.groupby(["method", "seed"], as_index=False).value.mean()).random > 0).all()
    switching = with_settings(TWENTY, "switches").query("method == 'adaswitch'").switch_rate.mean()
    assert f"{switching:.1f}" == "0.4" and "four dialogues in ten switch" in README
    falls = claims.table(TWENTY).query("claim == 'C4'")
    assert falls.verdict.tolist() == ["holds", "holds"] and all(effect(line) in account for _, line in falls.iterrows())
    metrics = with_settings(TWENTY, "metrics").query("method == 'adaswitch' and seed == 14 and metric == 'kl_data'")
    by_step = metrics.set_index("step").value
    assert f"it is {by_step[200]:.3f} nats from the teacher, after {by_step[80]:.3f} at step 80" in account
    loss = with_settings(TWENTY, "switches").query("method == 'adaswitch' and seed == 14 and step > 180").loss.mean()
    assert f"loss on its texts is {loss:.3f} nats" in account


def test_what_half_of_the_rate_does_is_told_as_it_was():
    account = " ".join(ACCOUNT.split())
    lines = claims.table(RESULTS).query("claim == 'R'")
    assert (
        len(lines) == 6 and set(lines.verdict) == {"not decided"} and all(effect(line) in account for _, line in lines.iterrows())
    )
    means = lines.set_index("what")["mean"].abs()
    assert means[~means.index.str.contains("TVD")].max() < 0.0105 and lines[~lines.what.str.contains("TVD")].high.max() < 0.06
    rates = tables.by_rate(claims.two_rates(RESULTS))
    chosen = rates[rates.chosen].groupby("loss").learning_rate.unique()
    assert chosen.pop("forward_kl").tolist() == [0.004] and [list(some) for some in chosen] == [[0.002]] * 3
    lost = tables.lost_to_forward_kl(rates).groupby("loss")
    low, high = (
        getattr(lost, name)(numeric_only=True).loc[["reverse_kl", "jensen_shannon", "total_variation"]] for name in ("min", "max")
    )
    half, whole = (
        [f"{a:.3f} to {b:.3f}" for a, b in zip(low[name], high[name], strict=True)]
        for name in ("at the chosen rates", "at the highest rate")
    )
    assert "reverse KL is {} below it, JSD {} and total variation {},".format(*half) in account
    assert "where at the whole rate it was {}, {} and {}.".format(*whole) in account
    wide = tables.final_scores(claims.two_rates(RESULTS)).query("loss != 'forward_kl'")
    gains = wide.pivot(index=["loss", "method", "seed"], columns="learning_rate", values="value")
    gains = gains[0.002] - gains[0.004]
    assert (gains > 0).sum() == 22 and len(gains) == 27 and (gains.groupby(["loss", "method"]).mean() > 0).all()
    best = tables.final_scores(claims.at_the_better_rate(claims.two_rates(RESULTS)))
    best = best.pivot(index=["method", "seed"], columns="loss", values="value")
    assert best.drop(columns="forward_kl").lt(best.forward_kl, axis=0).all(axis=None)
    for folder, rates, shares in ((RESULTS, "29 to 49", "14 to 23"), (RESULTS.parent / "half_rate", "20 to 30", "9 to 13")):
        switches = with_settings(folder, "switches", "metrics").query("method == 'adaswitch' and loss_of_run != 'forward_kl'")
        means = 100 * switches.groupby("loss_of_run")[["switch_rate", "teacher_share"]].mean()
        for name, told in (("switch_rate", rates), ("teacher_share", shares)):
            assert told == f"{means[name].min():.0f} to {means[name].max():.0f}" and f"{told}%" in account.replace(" %", "%"), told
