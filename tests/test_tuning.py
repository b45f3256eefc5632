"""Tuning, on results whose best settings are known."""

import json

import pandas as pd
import pytest

from adaswitch_lib.experiments import presets, records, tuning
from adaswitch_lib.experiments.presets import PRESETS
from adaswitch_lib.experiments.tasks import TASKS


@pytest.fixture
def finish(tmp_path, monkeypatch):
    """Pretends that candidates were run; their score is higher the nearer their rate is to 3e-3, and by 0.5 with a floor of 0."""
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    monkeypatch.setattr(tuning, "CHOICES_FILE", tmp_path / "choices.json")
    results = tmp_path / "results" / "tuning"

    def run(configs):
        for config in configs:
            score = 1 - 100 * abs(config.learning_rate - 3.1e-3) + 0.5 * (config.rule.floor == 0)
            curve = pd.DataFrame({"step": [0, 75, 100, 125], "value": [9.0, 9.0, score - 0.1, score + 0.1]})
            curve = curve.assign(task=config.task, split="validation", metric=TASKS[config.task].metric)
            switches = pd.DataFrame({"step": [1, 2], "switch_position": [6.0, 10.0]})
            records.add_run(results, config.id, config.columns(), {"metrics": curve, "switches": switches})

    return run


def test_every_method_has_the_same_budget_and_no_test_rows(finish):
    first = tuning.rates(["micro_gsm"])
    finish(first)
    runs = pd.DataFrame([vars(run) for run in first + tuning.refined(["micro_gsm"])])
    assert set(runs.groupby("method").size()) == {5}
    assert all(set(rates) >= set(tuning.RATES) for _, rates in runs.groupby("method").learning_rate)
    assert set(runs.test_rows) == {0} and not set(runs.seed) & set(PRESETS["micro"].seeds)


def test_the_fifth_setting_is_tried_at_the_best_rate(finish):
    finish(tuning.rates(["micro_gsm"]))
    fifth = {run.method: run for run in tuning.refined(["micro_gsm"])}
    assert fifth["kd"].learning_rate == 2.8e-3  # between 4e-3, the best, and 2e-3
    assert (fifth["adaswitch"].learning_rate, fifth["adaswitch"].rule.floor) == (4e-3, 0.0)
    assert (fifth["skd"].learning_rate, fifth["skd"].settings) == (4e-3, (("top_k", 2),))


def test_the_best_is_chosen_and_written_down(finish, tmp_path):
    tasks = ["micro_gsm"]
    with pytest.raises(ValueError, match="40 candidates have not been run: .*tune"):
        tuning.choose(tasks)
    finish(tuning.rates(tasks))
    finish(tuning.refined(tasks))
    table = tuning.choose(tasks)
    assert table.groupby("method").chosen.sum().eq(1).all()
    chosen = json.loads((tmp_path / "choices.json").read_text())
    assert chosen["micro_gsm/kd"] == {"learning_rate": 2.8e-3}
    assert chosen["micro_gsm/adaswitch"] == chosen["micro_gsm/random"] == {"learning_rate": 4e-3, "floor": 0.0}
    assert chosen["micro_gsm/fixed"] == {"learning_rate": 4e-3, "floor": 0.0, "fraction": round(8 / 64, 2)}
    page = (tmp_path / "results" / "micro" / "choices.md").read_text()
    assert page.count("**chosen**") == len(tuning.OWN) and "micro_gsm/fixed" in page


def test_what_was_chosen_for_one_task_stays_when_another_is_tuned(finish, tmp_path):
    for task in ("micro_dialog", "micro_gsm"):
        finish(tuning.rates([task]))
        finish(tuning.refined([task]))
        tuning.choose([task])
    chosen = json.loads((tmp_path / "choices.json").read_text())
    assert {name.split("/")[0] for name in chosen} == {"micro_gsm", "micro_dialog"}
    table = records.read_table_file(tmp_path / "results" / "micro" / "choices.csv")
    assert table.task.unique().tolist() == ["micro_gsm", "micro_dialog"] and len(table) == 100
    assert (tmp_path / "results" / "micro" / "choices.md").read_text().count("**chosen**") == 2 * len(tuning.OWN)


@pytest.mark.parametrize("content", ['{"micro_gsm/kd": {"learning', "[]", '{"micro_gsm/kd": 3}', "<<<<<<< ours\n{}", ""])
def test_damaged_choices_are_named(content, tmp_path):
    file = tmp_path / "choices.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=f"{file} is damaged .*restore it"):
        presets.read_choices(file)


def test_candidates_with_the_settings_that_were_chosen_are_the_references():
    """But for what makes them candidates: fewer steps, another seed, no test."""
    chosen = presets.read_choices(presets.CHOICES_FILE)
    for task in PRESETS["tuning"].tasks:
        for method in tuning.OWN:
            candidate = tuning._candidate(task, method, 0, chosen[f"{task}/{method}"])
            assert candidate.resolve_method() == PRESETS["micro"].config(task, method, 0).resolve_method()
