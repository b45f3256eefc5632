"""Tables, what came out, and how both are shown: on results of a few lines, worked by hand."""

import re

import pandas as pd
import pytest
from made_results import Made, everything

from adaswitch_lib.experiments.table_files import write_table
from adaswitch_lib.report import findings, scores, switches, tables
from adaswitch_lib.report.display import LONG, Html, Markdown, table
from adaswitch_lib.report.plot_style import label

WORDS, DIALOGUES = label("micro_gsm"), label("micro_dialog")
OF_RESULTS = (
    "against_chance behaviour benchmark by_divergence by_method by_seed caught early_switches held_out_table lead_table rates "
    "rules rules_pooled table_1 table_2 tenths texts world"
).split()
WHAT_CAME_OUT = (
    "main_results divergences switch_rate divergence_at_the_switch early_stage cost rules controls real_llm why when_it_pays"
).split()
INTERNAL = "micro_|onpolicy|adaswitch|trained_on|p_holm|switch_rate|forward_kl"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return everything(tmp_path_factory.mktemp("results") / "made")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One seed of two methods on word problems, and no study."""
    return Made(range(1)).grid(("micro_gsm",), ("kd", "adaswitch")).write(tmp_path_factory.mktemp("results") / "small")


@pytest.mark.parametrize("name", OF_RESULTS)
@pytest.mark.parametrize("which", ["results", "small"])
def test_every_table_is_in_plain_words(name, which, request):
    found = getattr(tables, name)(request.getfixturevalue(which))
    assert not re.search(INTERNAL, tables.markdown(found))


@pytest.mark.parametrize("name", WHAT_CAME_OUT)
@pytest.mark.parametrize("which", ["results", "small"])
def test_what_came_out_is_said_of_any_results(name, which, request):
    found = getattr(findings, name)(request.getfixturevalue(which))
    assert found.startswith("- ") and not re.search(rf"{INTERNAL}|\bnan\b", found)


SCORES = {"adaswitch": [0.90, 0.92, 0.94], "kd": [0.80, 0.83, 0.84], "onpolicy": [0.89, 0.93, 0.93]}


def with_scores(folder, scores, *more):
    """Test scores on word problems, a value a seed; of a study too, with the scores of each: (variant, settings, scores)."""
    made = Made(range(3))
    for variant, settings, values in (("", {}, scores), *more):
        for method in values:
            for seed in range(len(values[method])):
                made.run("micro_gsm", method, seed, variant, **settings)
        for row in made.metrics:
            task, method, *rest = row["run"].split("-")
            if row["split"] == "test" and row["task"] == "micro_gsm" and ("-".join(rest[:-2]) == variant):
                row["value"] = values[method][int(rest[-2][1:])]
    return made.write(folder)


def test_the_main_table_by_hand(tmp_path):
    found = tables.table_1(with_scores(tmp_path, SCORES)).set_index("method")[WORDS]
    assert found.index.tolist() == ["KD", "On-policy KD", "AdaSwitch, floor = 0"]
    half = 4.302652729911275 * 0.02 / 3**0.5
    assert found["AdaSwitch, floor = 0"] == f"0.920 ± {half:.3f}"
    assert found["KD"].endswith("†") and not found["On-policy KD"].endswith("†")


def test_a_dagger_is_corrected_over_the_whole_table(tmp_path):
    """Of two comparisons KD's p-value is below 0.05, of seven above it."""
    few = SCORES | {"kd": [0.80, 0.83, 0.82]}
    lines = scores.leads(scores.final(scores.grid(with_scores(tmp_path / "few", few)))).set_index("against")
    reached = lines[lines.task == "micro_gsm"]
    assert 2 * reached.p["kd"] < 0.05 < 7 * reached.p["kd"]
    assert tables.table_1(tmp_path / "few").set_index("method")[WORDS]["KD"].endswith("†")
    same = dict.fromkeys(("sft", "seqkd", "offpolicy", "skd", "fixed"), [0.91, 0.92, 0.93])
    assert not tables.table_1(with_scores(tmp_path / "many", few | same)).set_index("method")[WORDS]["KD"].endswith("†")


def test_a_method_with_fewer_seeds_says_so(tmp_path):
    found = tables.table_1(with_scores(tmp_path, SCORES | {"kd": [0.99, 0.99]})).set_index("method")[WORDS]
    assert found["KD"] == "0.990 (2 of 3 seeds)"


def test_rows_for_both_floors_and_for_what_methods_are_compared_with(results):
    found = tables.table_1(results).set_index("method")
    assert found.index[:2].tolist() == ["teacher", "initial student"] and found.loc["teacher", WORDS] == "0.990"
    assert found.loc["AdaSwitch, floor = 1 nat", WORDS] == "–" and found.loc["AdaSwitch, floor = 0", DIALOGUES].startswith("0.87")
    assert found.index[-5:].tolist() == [
        *(f"Permuted switches, floor = {floor}" for floor in ("0", "1 nat")),
        *(f"Stop at switch, floor = {floor}" for floor in ("0", "1 nat")),
        "Fixed switch",
    ]


def test_leads_are_paired_by_seed_and_corrected(tmp_path):
    lines = scores.leads(scores.final(scores.grid(with_scores(tmp_path, SCORES)))).query("task == 'micro_gsm'").set_index("against")
    assert lines["mean"].to_dict() == pytest.approx({"kd": 0.29 / 3, "onpolicy": 0.01 / 3})
    assert lines.p_holm["kd"] == pytest.approx(2 * lines.p["kd"])
    missing = scores.leads(scores.final(scores.grid(with_scores(tmp_path / "b", SCORES | {"kd": [0.8, 0.83]}))))
    assert missing[missing.task == "micro_gsm"].set_index("against").n["kd"] == 2


def test_leads_within_a_setting(tmp_path):
    halves = {name: [value / 2 for value in values] for name, values in SCORES.items()}
    folder = with_scores(tmp_path, SCORES, ("prompts.64", {"num_prompts": 64}, halves))
    rows = scores.final(scores.study(folder, "prompts")).query("task == 'micro_gsm'")
    lines = scores.leads(rows, "num_prompts").set_index(["num_prompts", "against"])
    assert lines["mean"][256, "kd"] == pytest.approx(0.29 / 3) and lines["mean"][64, "kd"] == pytest.approx(0.29 / 6)
    assert lines.p_holm[256, "kd"] == pytest.approx(4 * lines.p[256, "kd"])  # of four lines


def test_leads_of_nothing_have_their_columns(results):
    """A study with no evaluation in the first half has no early scores."""
    found = scores.leads(scores.early(scores.study(results, "prompts"))[:0], "num_prompts")
    assert found.empty and {"num_prompts", "task", "floor", "against", "mean", "p_holm"} <= set(found)


def test_early_is_the_first_half_without_what_came_before_training():
    curve = [(0, 0.9), (10, 0.1), (20, 0.3), (30, 0.7), (40, 0.8)]
    lines = [{"step": step, "value": value, "split": "validation", "metric": "accuracy"} for step, value in curve]
    lines += [{"step": 40, "value": 0.6, "split": "test", "metric": "accuracy"}]
    lines += [{"step": 20, "value": 9.0, "split": "validation", "metric": "kl_own"}]
    metrics = pd.DataFrame(lines).assign(task="micro_gsm", trained_on="micro_gsm", run="a", seed=0)
    found = scores.early(pd.concat([metrics, metrics.assign(run="b", seed=1, value=metrics.value / 2)]))
    assert found.set_index("seed").value.to_dict() == pytest.approx({0: 0.2, 1: 0.1})


def test_texts_of_the_first_half_are_counted_as_scores_are(results):
    """Their score is half of the students', step 0 apart: AdaSwitch's 0.175 + 0.025, KD's 0.1375."""
    found = tables.texts(results, "kd").query("task == @WORDS")
    assert found["mean"].item() == pytest.approx((0.65 - 0.5) / 4, abs=0.002)


def test_students_above_one_half_are_counted(tmp_path):
    rows = Made(range(4)).grid(("micro_dialog",), ("kd", "sft"))
    curves = {"kd": [(0.1, 0.6, 0.7), (0.2, 0.5, 0.9), (0.1, 0.1, 0.2), (0.6, 0.2, 0.2)], "sft": [(0.5, 0.5, 0.5)] * 4}
    for row in rows.metrics:
        _, method, seed, _ = row["run"].split("-")
        if (row["split"], row["metric"]) == ("validation", "all_facts"):
            row["value"] = curves[method][int(seed[1:])][row["step"] // 10]
    found = tables.by_method(rows.write(tmp_path)).set_index("method")
    assert found.loc["KD", ["seeds", "students above one half", "median step of the first"]].tolist() == [4, 3, "10"]  # 10, 20, 0
    assert found.loc["SFT", "students above one half"] == 0 and pd.isna(found.loc["SFT", "median step of the first"])


def test_cost_is_counted_in_steps_of_other_methods(tmp_path):
    rows = Made(range(2)).grid(("micro_gsm",), ("kd", "onpolicy", "adaswitch"))
    for row in rows.switches:
        _, method, seed, _ = row["run"].split("-")
        slower = 1 + (seed == "s1")  # a slower machine
        row["step_seconds"] = slower * {"kd": 1.0, "onpolicy": 4.0, "adaswitch": 5.0}[method]
    found = tables.table_2(rows.write(tmp_path)).set_index("method").loc["AdaSwitch"]
    assert found["seconds a step"] == 7.5 and found["steps of KD"] == 5 and found["steps of on-policy KD"] == 1.25


def test_all_rules_are_pooled(results):
    found = tables.rules_pooled(results).set_index("task")
    assert found.loc[DIALOGUES, ["rules", "seeds"]].tolist() == [5, 4]  # three floors, and two values of K
    assert found.loc[DIALOGUES, "highest mean"] - found.loc[DIALOGUES, "lowest mean"] == pytest.approx(0.02)
    assert "5 rules" in findings.rules(results)


def test_what_there_is_to_decide(results):
    found = tables.world(results).set_index("measured")[WORDS]
    assert found["teacher"] == 0.99 and found["initial student"] == pytest.approx(0.065)
    assert (found["worst method"], found["best method"]) == pytest.approx((0.3, 0.7), abs=0.003)
    assert found["first text, AdaSwitch"] == pytest.approx(0.025, abs=0.003)
    assert found["KD on own text [nats]"] - found["KD on the data [nats]"] == pytest.approx(0.1)


def test_shares_are_of_the_texts_that_they_are_shares_of(results):
    lines = pd.DataFrame({"third": ["first", "first", "last"], "caught": [1.0, 0.25, float("nan")], "wrong": [1, 4, 0]})
    found = switches.pooled_shares(lines, [lines.third], {"caught": "wrong"}).caught
    assert found["first"] == 0.4 and pd.isna(found["last"])
    chance = tables.against_chance(results).set_index(["task", "third"]).loc[DIALOGUES, "first"]
    assert chance["texts"] == 64 and chance["switch"] == 16  # four seeds, of sixteen and four texts
    assert (chance["of those that switch"], chance["at the first wrong word, of all"]) == (0.25, 0.0625)


def test_a_switch_is_followed_from_the_first_to_the_last_tenth(results):
    found = tables.tenths(results).set_index(["task", "floor [nats]", "steps"])["texts that switch"]
    assert found[WORDS, "0", "first tenth"] == pytest.approx((1 - 1.5 / 40) * 1.03)
    assert found[WORDS, "0", "last tenth"] == pytest.approx((1 - 19.5 / 40) * 1.03)


def test_the_tables_of_real_dialogues(tmp_path):
    made = Made(range(1)).grid(("dialogsum",), ("kd", "adaswitch"))
    folder = made.study("rates.1e-4", ["adaswitch"], task="dialogsum", learning_rate=1e-4).write(tmp_path)
    items = [
        {
            "run": f"dialogsum-{method}-s0-00000000",
            "task": "dialogsum",
            "example": example,
            "rouge_l": score,
            "answer": method,
        }
        for method, values in {"kd": (0.1, 0.2, 0.3), "adaswitch": (0.2, 0.2, 0.5)}.items()
        for example, score in enumerate(values)
    ]
    write_table(pd.DataFrame(items), folder / "items.parquet")
    teacher = {"method": "teacher", "seed": -1, "task": "dialogsum", "example": 0, "rouge_l": 0.9, "answer": "sum"}
    write_table(pd.DataFrame([teacher]), folder / "reference_scores.parquet")
    tokens = {"task": "gsm8k", "example": 0, "pos": range(4), "switch_index": 2, "divergence": [0.1, 0.2, 5.0, 0.1]}
    write_table(pd.DataFrame(tokens), folder / "other_tasks.parquet")
    assert tables.summaries(folder, 0, 0).values.tolist() == [
        ["teacher", 0.9, "sum"],
        ["KD", 0.1, "kd"],
        ["AdaSwitch", 0.2, "adaswitch"],
    ]
    assert tables.by_dialogue(folder, 0)["mean"].tolist() == pytest.approx([0.1])
    by_length = tables.by_length(folder, 0, ["a b", "a", "a b c"], words=1).set_index("method")
    assert by_length.loc["KD", ["up to 1 words", "longer", "all"]].tolist() == pytest.approx([0.2, 0.2, 0.2])
    assert tables.other_tasks(folder).iloc[0].tolist() == ["GSM8K", 1.0, 1.0, 2.0, 4.0, 5.0]
    assert len(tables.rates(folder)) == 2


def test_a_table_is_kept_as_csv_markdown_and_latex(results):
    found = tables.table_1(results)
    shown = tables.save(found, results, "table_1", "A caption of 95 %.")
    assert pd.read_csv(results / "tables" / "table_1.csv")["method"].tolist() == found["method"].tolist()
    assert "| KD | 0.50" in (results / "tables" / "table_1.md").read_text()
    latex = (results / "tables" / "table_1.tex").read_text()
    assert r"\toprule" in latex and r"\pm" in latex and r"\caption{A caption of 95 \%.}" in latex and "\n0 &" not in latex
    assert (results / "tables" / "table_1.csv.provenance.json").exists() and "A caption" in shown


def test_cells_are_whole_and_long_tables_are_folded():
    long = "a sentence that is longer than fifty characters, which pandas would cut"
    assert long in table(pd.DataFrame({"says": [long]})) and "<details>" not in table(pd.DataFrame({"says": [long]}))
    folded = table(pd.DataFrame({"n": range(LONG + 1)}), "Numbers & more")
    assert folded.startswith("<details><summary>Numbers &amp; more") and len(folded) > len(repr(folded))
    cells = table(pd.DataFrame({"x": [0.12345, -0.5, float("nan")], "n": [1, 2, 3]}))
    assert all(f">{cell}</td>" in cells for cell in ("0.123", "−0.500", "–", "1"))
    assert Html("<b>")._repr_html_() == "<b>" and Markdown("*a*")._repr_markdown_() == "*a*"
