"""Tables worked by hand, on results of a few lines."""

import pandas as pd
import pytest

from adaswitch_lib.report import tables

SCORES = {"adaswitch": [0.90, 0.92, 0.94], "kd": [0.80, 0.83, 0.84], "onpolicy": [0.89, 0.93, 0.93]}


@pytest.fixture
def metrics():
    return pd.DataFrame(
        [
            {"task": "micro_gsm", "split": split, "metric": metric, "step": 500, "method": method, "seed": seed, "value": value}
            for method, values in SCORES.items()
            for seed, value in enumerate(values)
            for split, metric in (("test", "accuracy"), ("validation", "accuracy"), ("test", "accuracy_steps"))
        ]
    )


def test_the_main_table_by_hand(metrics):
    table = tables.main_results(metrics)
    assert table.index.tolist() == ["KD", "On-policy KD", "AdaSwitch"]
    half = 4.302652729911275 * 0.02 / 3**0.5
    assert table.loc["AdaSwitch", "micro GSM"] == f"0.920 ± {half:.3f}"  # not alone: on-policy is as good
    assert table.loc["KD", "micro GSM"].endswith("†")


def test_a_dagger_is_corrected_over_the_whole_table(metrics):
    """Of two comparisons KD's p-value is below 0.05, of the eight of four tasks above it."""
    metrics = metrics.assign(value=metrics.value.mask((metrics.method == "kd") & (metrics.seed == 2), 0.82))
    p = tables.paired_differences(tables.final_scores(metrics)).set_index("against").p["kd"]
    assert 2 * p < 0.05 < 8 * p
    assert tables.main_results(metrics).loc["KD", "micro GSM"].endswith("†")
    no_difference = metrics.value.where(metrics.method == "adaswitch", 0.9 + 0.05 * (metrics.seed - 1) ** 2)
    others = ("micro_gsm_plus", "gsm8k", "gsm_plus")
    both = pd.concat([metrics, *(metrics.assign(task=task, value=no_difference) for task in others)])
    assert len(tables.paired_differences(tables.final_scores(both)).p.dropna()) == 8
    assert "†" not in tables.main_results(both).loc["KD", "micro GSM"]


def test_a_method_that_beats_all_others_has_a_star(metrics):
    alone = metrics[metrics.method != "onpolicy"]
    assert tables.main_results(alone).loc["AdaSwitch", "micro GSM"].endswith(" *")
    one_seed = tables.main_results(metrics[metrics.seed == 0])
    assert one_seed.loc["AdaSwitch", "micro GSM"] == "0.900"


def test_a_method_with_fewer_seeds_says_so_and_is_not_the_best(metrics):
    best = metrics.value.where(metrics.method != "kd", 1.0)
    fewer = metrics.assign(value=best)[(metrics.method != "kd") | (metrics.seed < 2)]
    table = tables.main_results(fewer)
    assert table.loc["KD", "micro GSM"] == "1.000 (2 of 3 seeds)"
    assert "*" not in table.loc["KD", "micro GSM"] + table.loc["AdaSwitch", "micro GSM"]


def test_differences_are_paired_by_seed_and_corrected(metrics):
    found = tables.paired_differences(tables.final_scores(metrics)).set_index("against")
    assert found.loc["kd", "mean"] == pytest.approx(0.29 / 3)
    assert found.loc["onpolicy", "mean"] == pytest.approx(0.01 / 3)
    assert found.loc["kd", "p_holm"] == pytest.approx(2 * found.loc["kd", "p"])
    missing = tables.final_scores(metrics[~((metrics.method == "kd") & (metrics.seed == 2))])
    missing = tables.paired_differences(missing).set_index("against")
    assert missing.loc["kd", "n"] == 2


def test_early_is_the_first_half_without_what_came_before_training():
    curve = [(0, 0.9), (10, 0.1), (20, 0.3), (30, 0.7), (40, 0.8)]
    lines = [{"step": step, "value": value, "split": "validation", "metric": "accuracy"} for step, value in curve]
    lines += [{"step": 40, "value": 0.6, "split": "test", "metric": "accuracy"}]
    lines += [{"step": 20, "value": 9.0, "split": "validation", "metric": "kl_own"}]
    metrics = pd.DataFrame(lines).assign(task="micro_gsm", run="a", method="kd", seed=0)
    found = tables.early_scores(pd.concat([metrics, metrics.assign(run="b", seed=1, value=metrics.value / 2)]))
    assert found.set_index("seed").value.to_dict() == pytest.approx({0: 0.2, 1: 0.1})


def test_students_that_pass_one_half_are_counted_by_hand():
    scores = {
        **{("kd", seed): curve for seed, curve in enumerate([(0.1, 0.6, 0.7), (0.2, 0.5, 0.9), (0.1, 0.1, 0.2), (0.6, 0.2, 0.2)])},
        ("sft", 0): (0.5, 0.5, 0.5),
    }
    lines = [
        {"method": method, "seed": seed, "step": 10 * i, "value": value}
        for (method, seed), curve in scores.items()
        for i, value in enumerate(curve)
    ]
    metrics = pd.DataFrame(lines).assign(task="micro_dialog", split="validation", metric="all_facts")
    others = [metrics.assign(split="test", value=1.0), metrics.assign(metric="facts", value=1.0)]
    found = tables.passing(pd.concat([metrics, *others])).set_index("method")
    assert found.loc["kd", ["students", "passed", "step"]].tolist() == [4, 3, 10]  # at 10, 20 and 0; passed stays passed
    assert found.loc["sft", ["students", "passed"]].tolist() == [1, 0] and pd.isna(found.step.sft)


def test_the_rate_that_validation_chooses_by_hand():
    """Of the last two examinations the mean counts, over seeds; of equals the lower rate is taken; test scores do not matter."""
    curves = {
        ("kd", 0.002, 0): (0.9, 0.4, 0.6), ("kd", 0.002, 1): (0.9, 0.6, 0.4),
        ("kd", 0.004, 0): (0.0, 0.5, 0.7), ("kd", 0.004, 1): (0.0, 0.5, 0.5),
        ("sft", 0.004, 0): (0.0, 0.5, 0.5), ("sft", 0.002, 0): (0.0, 0.5, 0.5),
    }  # fmt: skip
    lines = [
        {"method": method, "learning_rate": rate, "seed": seed, "split": split, "step": 10 * i, "value": value}
        for (method, rate, seed), curve in curves.items()
        for i, (split, value) in enumerate([*(("validation", value) for value in curve), ("test", 1 - 100 * rate)])
    ]
    metrics = pd.DataFrame(lines).assign(task="micro_dialog", loss="forward_kl", metric="all_facts")
    found = tables.by_rate(metrics).set_index(["method", "learning_rate"])
    assert found.validation.to_dict() == pytest.approx(
        {("kd", 0.002): 0.5, ("kd", 0.004): 0.55, ("sft", 0.002): 0.5, ("sft", 0.004): 0.5}
    )
    assert found.test.unique().tolist() == pytest.approx([0.8, 0.6])
    assert found.index[found.chosen].tolist() == [("sft", 0.002), ("kd", 0.004)]


def test_what_a_loss_loses_to_forward_kl_by_hand():
    """At the highest rate 0.9 − 0.5; validation chooses the lower rate for reverse KL alone."""
    lines = [("forward_kl", 0.004, 0.9, True), ("forward_kl", 0.002, 0.8, False)]
    lines += [("reverse_kl", 0.004, 0.5, False), ("reverse_kl", 0.002, 0.85, True)]
    rates = pd.DataFrame(lines, columns=["loss", "learning_rate", "test", "chosen"]).assign(task="micro_dialog", method="kd")
    (line,) = tables.lost_to_forward_kl(rates).itertuples(index=False, name=None)
    assert line == ("micro_dialog", "reverse_kl", "kd", pytest.approx(0.4), pytest.approx(0.05))


def test_cost_is_told_in_steps_of_other_methods():
    lines = [("kd", 0, 1.0), ("kd", 0, 3.0), ("onpolicy", 0, 4.0), ("adaswitch", 0, 5.0)]
    lines += [("onpolicy", 1, 8.0), ("adaswitch", 1, 10.0)]  # a slower machine, and none of KD
    switches = pd.DataFrame(lines, columns=["method", "seed", "step_seconds"]).assign(trained_on="micro_gsm")
    table = tables.cost(switches)
    assert table.loc["adaswitch", "seconds, micro_gsm"] == 7.5
    assert table.loc["adaswitch", "of kd, micro_gsm"] == 2.5 and table.loc["adaswitch", "of onpolicy, micro_gsm"] == 1.25


def test_a_table_is_kept_as_csv_markdown_and_latex(metrics, tmp_path):
    table = tables.main_results(metrics)
    tables.save(table, tmp_path, "table_1", "A caption of 95 %.", preset="test")
    assert pd.read_csv(tmp_path / "table_1.csv")["method"].tolist() == table.index.tolist()
    assert "| KD | 0.823" in (tmp_path / "table_1.md").read_text()
    latex = (tmp_path / "table_1.tex").read_text()
    assert r"\toprule" in latex and r"\pm" in latex and r"\caption{A caption of 95 \%.}" in latex
    assert r"\textbf" not in latex and "**" not in (tmp_path / "table_1.md").read_text()


def test_a_table_without_names_of_rows_has_no_column_for_them(tmp_path):
    tables.save(pd.DataFrame({"task": ["a"], "n": [float("nan")]}), tmp_path, "t", "A caption.")
    assert "a & – " in (tmp_path / "t.tex").read_text() and "0 &" not in (tmp_path / "t.tex").read_text()
    assert "| a | – |" in (tmp_path / "t.md").read_text()


def test_the_best_is_bold_where_it_is_alone(metrics, tmp_path):
    table = tables.main_results(metrics[metrics.method != "onpolicy"])
    tables.save(table, tmp_path, "table_1", "A caption.", preset="test")
    assert f"| AdaSwitch | **{table.loc['AdaSwitch', 'micro GSM']}** |" in (tmp_path / "table_1.md").read_text()
    assert (tmp_path / "table_1.tex").read_text().count(r"\textbf{0.920 $\pm$ 0.050 *}") == 1
    assert (tmp_path / "table_1.csv.provenance.json").exists()


def test_references_are_rows_of_their_own(metrics):
    lines = [("teacher", -1, 0.99), ("start", 0, 0.1), ("start", 1, 0.2), ("start", 2, 0.3)]
    references = pd.DataFrame(lines, columns=["method", "seed", "value"]).assign(task="micro_gsm", metric="accuracy", split="test")
    table = tables.main_results(metrics, references)
    assert table.index.tolist() == ["teacher", "student before", "KD", "On-policy KD", "AdaSwitch"]
    assert table.loc["teacher", "micro GSM"] == "0.990" and table.loc["student before", "micro GSM"].startswith("0.200 ± ")


def test_differences_within_a_setting(metrics):
    both = pd.concat([metrics.assign(num_prompts=64), metrics.assign(num_prompts=512, value=metrics.value / 2)])
    found = tables.paired_differences(tables.final_scores(both), within="num_prompts").set_index(["num_prompts", "against"])
    assert found.loc[(64, "kd"), "mean"] == pytest.approx(0.29 / 3)
    assert found.loc[(512, "kd"), "mean"] == pytest.approx(0.29 / 6)
    assert found.loc[(64, "kd"), "p_holm"] == pytest.approx(4 * found.loc[(64, "kd"), "p"])  # of four rows


def test_what_there_is_to_decide(metrics):
    looked = [
        ("onpolicy", "written_accuracy", 0, 0.1),
        ("adaswitch", "written_accuracy", 0, 0.6),
        ("kd", "kl_own", 500, 0.5),
        ("kd", "kl_data", 500, 0.2),
    ]
    looked = pd.DataFrame(looked, columns=["method", "metric", "step", "value"]).assign(
        split="validation", task="micro_gsm", seed=0
    )
    metrics = pd.concat([metrics[metrics.split == "test"], looked]).assign(trained_on="micro_gsm")
    references = pd.DataFrame([{"method": "teacher", "seed": -1, "task": "micro_gsm", "metric": "accuracy", "value": 0.99}])
    fit = tables.world_fit(metrics, references)["micro GSM"]
    assert (fit["teacher"], fit["best method"], fit["first text, AdaSwitch"]) == pytest.approx((0.99, 0.92, 0.6))
    assert fit["worst method"] == pytest.approx(2.47 / 3) and fit["KD on own text [nats]"] == 0.5
    assert fit.isna()["student before"]
    other = metrics[metrics.split == "test"].assign(task="micro_gsm_plus")
    fit = tables.world_fit(pd.concat([metrics, other]), references)["micro GSM-Plus"]
    assert fit["best method"] == pytest.approx(0.92) and fit.isna()["first text, AdaSwitch"]
    fit = tables.world_fit(metrics, references)["micro GSM"]
    assert fit["sd of paired differences"] == pytest.approx((0.0057735 + 0.0115470) / 2, rel=1e-4)
    without = tables.world_fit(metrics[metrics.method != "adaswitch"], references)["micro GSM"]
    assert without.isna()["sd of paired differences"] and without["best method"] == pytest.approx(2.75 / 3)


def test_shares_are_pooled_by_the_texts_that_they_are_shares_of():
    table = pd.DataFrame({"third": ["first", "first", "last"], "caught": [1.0, 0.25, float("nan")], "wrong": [1, 4, 0]})
    found = tables.pooled(table, [table.third], {"caught": "wrong"}).caught
    assert found["first"] == 0.4 and pd.isna(found["last"])
