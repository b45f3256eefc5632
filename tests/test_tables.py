"""Tables of results and the settings of their runs."""

import pandas as pd
import pytest

from adaswitch_lib.experiments import records

SAME = dict.fromkeys((*records.SAME_IN_A_GRID, "learning_rate"), 7) | {"task": "micro_gsm", "seed": 0}


@pytest.fixture
def results(tmp_path):
    """Two methods of a grid, and a study of one of them."""
    kd, sft = ({"method": "kd", "label": "KD"}, {"method": "sft", "label": "SFT"})
    runs = [
        SAME | kd | {"run": "a", "variant": "", "rule.floor": 1.0, "paired_with": "a"},
        SAME | sft | {"run": "b", "variant": "", "rule.floor": 1.0, "paired_with": "b"},
        SAME | kd | {"run": "c", "variant": "floors.0", "rule.floor": 0.0, "paired_with": "a"},
    ]
    records.write_table(pd.DataFrame(runs), tmp_path / "runs.csv")
    metrics = {"run": ["a", "b", "c"], "task": "micro_gsm_plus", "value": [1, 2, 3]}
    records.write_table(pd.DataFrame(metrics), tmp_path / "metrics.csv")
    records.write_table(pd.DataFrame(metrics), tmp_path / "items.parquet")
    return tmp_path


def test_tables_of_results_know_the_settings_of_their_runs(results):
    assert records.with_settings(results, "items").run.tolist() == ["a", "b"]
    found = records.with_settings(results, "metrics")
    assert found[["task", "trained_on", "method", "value"]].values.tolist() == [
        ["micro_gsm_plus", "micro_gsm", "kd", 1],
        ["micro_gsm_plus", "micro_gsm", "sft", 2],
    ]


def test_a_study_stands_beside_the_runs_that_it_is_paired_with(results):
    found = records.with_settings(results, "metrics", "floors")
    assert found[["run", "rule.floor", "value"]].values.tolist() == [["a", 1.0, 1], ["c", 0.0, 3]]
    assert records.with_settings(results, "metrics", "widths").empty
    runs = pd.read_csv(results / "runs.csv", keep_default_na=False)
    without = runs.assign(paired_with=runs.paired_with.mask(runs.run == "c", "of another version"))
    records.write_table(without, results / "runs.csv")
    assert records.with_settings(results, "metrics", "floors").empty
    records.write_table(
        without.assign(seed=without.seed.mask(without.run == "c", 5)), results / "runs.csv"
    )  # which the grid has not
    assert records.with_settings(results, "metrics", "floors").run.tolist() == ["c"]
    assert records.with_settings(results, "items", "widths").empty


def test_a_grid_of_two_versions_of_a_preset_is_refused(results):
    runs = pd.read_csv(results / "runs.csv", keep_default_na=False)
    runs.loc[0, "steps"] = 8
    records.write_table(runs, results / "runs.csv")
    with pytest.raises(ValueError, match="micro_gsm .* differ in steps: .*run --preset"):
        records.with_settings(results, "metrics")


def test_seeds_of_a_method_with_different_settings_are_refused(results):
    runs = pd.read_csv(results / "runs.csv", keep_default_na=False)
    other = runs[runs.run == "a"].assign(run="d", seed=1, paired_with="d", learning_rate=8)
    records.write_table(pd.concat([runs, other]), results / "runs.csv")
    with pytest.raises(ValueError, match="micro_gsm', 'kd'.* differ in learning_rate"):
        records.with_settings(results, "metrics")


def test_a_study_of_an_older_preset_is_left_out(results):
    runs = pd.read_csv(results / "runs.csv", keep_default_na=False)
    runs.loc[runs.run == "c", "paired_with"] = "a of yesterday"
    records.write_table(runs, results / "runs.csv")
    assert records.with_settings(results, "metrics", "floors").empty


def test_a_run_replaces_an_older_one_of_the_same_name(tmp_path):
    (tmp_path / "work").mkdir()
    for run in ("micro_gsm-kd-s0-aaaaaaaa", "micro_gsm-kd-s1-aaaaaaaa", "micro_gsm-kd-s0-bbbbbbbb"):
        records.add_run(tmp_path, run, {name: pd.DataFrame({"value": [1]}) for name in records.TABLES})
    for name in records.TABLES:
        assert records.read_table(tmp_path, name).run.tolist() == ["micro_gsm-kd-s0-bbbbbbbb", "micro_gsm-kd-s1-aaaaaaaa"]
