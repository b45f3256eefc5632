"""Choosing, on results whose best settings are known."""

import json

import pandas as pd
import pytest

from adaswitch_lib.experiments import records, tuning
from adaswitch_lib.experiments.presets import PRESETS


@pytest.fixture
def finish(tmp_path, monkeypatch):
    """Pretends that candidates were run; their score is higher the nearer their rate is to 3e-3, and by 0.5 with a floor of 0."""
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    monkeypatch.setattr(tuning, "CHOICES_FILE", tmp_path / "choices.json")
    results = tmp_path / "results" / "choosing"
    (results / "work").mkdir(parents=True)

    def run(configs):
        for config in configs:
            score = 1 - 100 * abs(config.learning_rate - 3.1e-3) + 0.5 * (config.rule.floor == 0)
            curve = {
                "step": [0, 75, 100, 125],
                "value": [9.0, 9.0, score - 0.1, score + 0.1],
                "split": "validation",
                "metric": "accuracy",
            }
            tables = {name: pd.DataFrame({"step": [0]}) for name in records.TABLES}
            tables["metrics"] = pd.DataFrame(curve).assign(split="validation", metric="accuracy")
            tables["switches"] = pd.DataFrame({"step": [1, 2], "switch_position": [6.0, 10.0]})
            records.add_run(results, config.id, tables)

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
    assert (fifth["skd"].learning_rate, fifth["skd"].top_k) == (4e-3, 2)


def test_the_best_is_chosen_and_written_down(finish, tmp_path):
    tasks = ["micro_gsm"]
    with pytest.raises(ValueError, match="40 candidates have not been run: .*choose"):
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
