"""Runs: frozen configs, tables, skipping, resuming, locks; on the smoke preset."""

import gc
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest
from filelock import FileLock
from transformers import PreTrainedModel

from adaswitch_lib import RolloutTrainer
from adaswitch_lib.__main__ import main
from adaswitch_lib.experiments import PRESETS, records, run, run_all
from adaswitch_lib.experiments import runs as experiments
from adaswitch_lib.experiments.paths import results_dir
from adaswitch_lib.experiments.presets import preset
from adaswitch_lib.experiments.teachers import load_teacher
from adaswitch_lib.generation.session import NonFiniteLogits
from adaswitch_lib.rollout import Source
from adaswitch_lib.switching import SwitchRule

SMOKE = PRESETS["smoke"]
TABLES = ("runs", "metrics", "switches", "items", "traces")
MACHINE = ["train_seconds", "write_seconds", "step_seconds", "peak_memory_mb"]


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    return results_dir("smoke")


def tables(results):
    return {
        name: records.read_table(results, name).drop(columns=MACHINE, errors="ignore").reset_index(drop=True) for name in TABLES
    }


def test_a_run_leaves_tidy_tables_and_is_not_made_twice(results):
    config = SMOKE.config("micro_gsm", "adaswitch", 0)
    assert run(config)
    made = tables(results)
    assert made["runs"].run.tolist() == [config.id]
    assert made["runs"].loc[0, "rule.multiplier"] == 3.0 and made["runs"].loc[0, "commit"]
    assert len(made["switches"]) == config.steps
    metrics = made["metrics"].set_index(["split", "task", "step", "metric"]).value
    assert set(metrics.loc["validation", "micro_gsm"].index.get_level_values("step")) == {0, 3}
    assert 0 <= metrics.loc["test", "micro_gsm", 3, "accuracy"] <= 1
    assert 0 <= metrics.loc["test", "micro_gsm_plus", 3, "accuracy_reversed"] <= 1
    assert made["items"].groupby("task").size().to_dict() == {"micro_gsm": 32, "micro_gsm_plus": 32}
    assert set(made["traces"].step) == {0, 3} and set(made["traces"].source) <= {"student", "teacher"}
    assert (results / "runs.csv.provenance.json").is_file()
    assert not run(config)
    assert [path.name for path in (results / "work").iterdir() if path.is_dir()] == [
        path.name for path in (results / "work").glob("start-*") if path.is_dir()
    ]


def test_a_run_that_another_process_is_making_is_left_to_it(results):
    config = SMOKE.config("micro_gsm", "sft", 0)
    (results / "work").mkdir()
    with FileLock(results / "work" / f"{config.id}.lock"):
        assert not run(config)
    assert records.finished(results) == set()
    first, second = (replace(config, variant=f"rates.{rate}") for rate in (1, 2))
    with FileLock(results / "work" / f"{first.id}.lock"):
        assert run(second)  # a dot in a name does not make two runs one


def test_rows_of_a_run_that_was_killed_between_two_tables_are_not_kept_twice(results):
    (results / "work").mkdir()
    one = {name: pd.DataFrame({"x": [1, 2]}) for name in records.TABLES}
    records.write_table(one["metrics"].assign(run="a"), results / "metrics.csv")
    records.add_run(results, "a", one)
    records.add_run(results, "b", one)
    assert records.read_table(results, "metrics").run.tolist() == ["a", "a", "b", "b"]
    assert records.finished(results) == {"a", "b"}


@pytest.mark.parametrize("where", ["in a step", "in the test", "between two tables"])
def test_a_run_that_is_stopped_ends_with_the_tables_of_one_that_was_not(where, results, tmp_path, monkeypatch):
    config = replace(SMOKE.config("micro_dialog", "adaswitch", 0), steps=4, eval_every=2)
    run(config)
    whole = tables(results)
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path / "stopped"))

    class Stopped(BaseException):  # not an error that anything would catch
        pass

    def stop(*row, **named):
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        if where == "in a step":
            step = RolloutTrainer.training_step
            patch.setattr(
                RolloutTrainer, "training_step", lambda self, *row: stop() if self.state.global_step == 3 else step(self, *row)
            )
        elif where == "in the test":
            test = {"test": stop}
            load = experiments.TASKS["micro_dialog"].load
            patch.setattr(
                experiments,
                "TASKS",
                {
                    "micro_dialog": replace(
                        experiments.TASKS["micro_dialog"], load=lambda split, *row: test.get(split, load)(split, *row)
                    )
                },
            )
        else:
            write = records.write_table
            patch.setattr(
                records, "write_table", lambda new, file, **named: stop() if file.name == "runs.csv" else write(new, file)
            )
        run(config)
    assert run(config)
    for name, table in tables(results_dir("smoke")).items():
        pd.testing.assert_frame_equal(table, whole[name])


def test_a_grid_that_is_killed_ends_as_one_that_was_not(results, tmp_path, monkeypatch):
    configs = SMOKE.configs(["micro_dialog"], ["sft", "gkd"], [0])
    run_all(configs)
    whole = tables(results)
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path / "killed"))
    command = [sys.executable, "-m", "adaswitch_lib", "run", "--preset", "smoke", "--jobs", "1"]
    command += ["--task", "micro_dialog", "--method", "sft", "gkd", "--seed", "0"]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as in these tests; more would round otherwise
    process = subprocess.Popen(command, env=one_thread, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(random.uniform(5, 25))
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert not psutil.wait_procs(workers, timeout=30)[1]  # no worker goes on by itself
    subprocess.run(command, env=one_thread, check=True, capture_output=True)
    for name, table in tables(results_dir("smoke")).items():
        pd.testing.assert_frame_equal(table, whole[name])


def test_a_collapsed_student_is_counted_and_a_failed_run_is_named(results, monkeypatch):
    collapsing = replace(SMOKE.config("micro_dialog", "onpolicy", 0), learning_rate=1e12)
    failing = replace(SMOKE.config("micro_dialog", "sft", 0), batch_size=-1)
    good = SMOKE.config("micro_dialog", "sft", 0)
    with pytest.raises(RuntimeError, match=f"^{failing.id} failed: [^\n]+$"):
        run_all([failing, collapsing, good])
    made = tables(results)
    assert made["runs"].set_index("run").collapsed.to_dict() == {collapsing.id: True, good.id: False}
    scores = made["metrics"].query("run == @collapsing.id and split == 'test' and metric == 'facts'").value
    assert scores.tolist() == [0.0]


def test_a_collapse_that_an_examination_finds_counts_from_there_on(results, monkeypatch):
    """SFT's student writes only there; the trainer counts the step before it examines."""
    config = replace(SMOKE.config("micro_dialog", "sft", 0), traced_rows=0)
    examined, evaluate = [], experiments.evaluate

    def broken(*arguments):
        examined.append(1)
        if len(examined) > 1:
            raise NonFiniteLogits(Source.STUDENT, "NaN logits")
        return evaluate(*arguments)

    monkeypatch.setattr(experiments, "evaluate", broken)
    assert run(config)
    steps = tables(results)["metrics"].query("split == 'validation' and metric == 'all_facts'").set_index("step").value
    assert steps.index.tolist() == list(range(0, config.steps + 1, config.eval_every)) and (steps.iloc[1:] == 0).all()
    assert tables(results)["runs"].collapsed.all() and len(examined) == 2


def test_a_broken_teacher_is_no_collapsed_student(results, monkeypatch):
    def broken(*arguments):
        raise NonFiniteLogits(Source.TEACHER, "NaN logits")

    monkeypatch.setattr(experiments, "train_or_resume", broken)
    with pytest.raises(NonFiniteLogits, match="the teacher gives NaN logits. Check its weights"):
        run(SMOKE.config("micro_dialog", "kd", 0))
    assert not records.finished(results)


def test_a_run_needs_no_preset_of_its_name(results):
    config = replace(SMOKE.config("micro_dialog", "sft", 0), preset="mine")
    assert run(config) and config.id in records.finished(results_dir("mine"))


def test_hexadecimal_names_stay_as_they_are(tmp_path):
    records.write_table(pd.DataFrame({"run": ["a"], "teacher": ["01234567"], "commit": ["5e1234567890"]}), tmp_path / "runs.csv")
    read = records.read_table(tmp_path, "runs")
    assert read.teacher.tolist() == ["01234567"] and read.commit.tolist() == ["5e1234567890"]


def test_the_commit_is_that_of_a_checkout_that_has_the_package(tmp_path):
    """And not that of one which the package was merely installed in."""
    shutil.copytree(Path(records.__file__).parent, tmp_path / "lib" / "adaswitch_lib", ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *command], check=True)
    ask = [sys.executable, "-c", "from adaswitch_lib.experiments.records import COMMIT; print(COMMIT)"]
    out = subprocess.run(ask, cwd=tmp_path / "lib", capture_output=True, text=True, check=True).stdout
    assert out == "None\n"


def test_configs_differ_in_id_wherever_they_differ():
    config = PRESETS["micro"].config("micro_gsm", "kd", 0)
    assert config.id.startswith("micro_gsm-kd-s0-")
    assert replace(config, steps=7).id != config.id
    assert replace(config, variant="short").id.startswith("micro_gsm-kd-short-s0-")
    assert PRESETS["micro"].config("micro_gsm_plus", "kd", 0) == config
    everything = PRESETS["micro"].configs(["micro_gsm", "micro_gsm_plus", "micro_dialog"], PRESETS["micro"].methods, [0, 1])
    assert len(everything) == len({config.id for config in everything}) == 2 * 13 * 2


def test_twenty_more_students_learn_as_those_of_the_bare_ratio_did():
    earlier = {config.method: config for config in PRESETS["micro"].study("fresh") if config.seed == 5}
    for config in PRESETS["confirm"].everything():
        same = replace(earlier[config.method], preset="confirm", seed=config.seed, variant="", rule=config.rule)
        assert config == same and config.resolve_method() == earlier[config.method].resolve_method()
    seeds = {config.seed for config in PRESETS["confirm"].everything()}
    assert len(seeds) == 20 and seeds.isdisjoint(config.seed for config in PRESETS["micro"].everything())


def test_runs_at_half_of_the_rate_differ_from_those_of_figure_3_in_the_rate_alone():
    full, half = (PRESETS[name] for name in ("micro", "half_rate"))
    grid = full.configs(half.tasks, half.methods, half.seeds)
    pairs = [*zip(half.study("metrics"), full.study("metrics"), strict=True)]
    pairs += zip(half.configs(half.tasks, half.methods, half.seeds), grid, strict=True)
    assert len(pairs) == len(half.everything()) == 36
    for slow, fast in pairs:
        assert slow == replace(fast, preset="half_rate", learning_rate=fast.learning_rate / 2)


def test_a_rule_that_is_given_stands_as_it_is():
    rule = SwitchRule(multiplier=2.0, window=5, min_history=1, floor=0.0)
    config = PRESETS["micro"].config("micro_gsm", "adaswitch", 0, rule=rule)
    assert config.resolve_method().policy.rule == rule and config.variant.startswith("adhoc.")
    assert PRESETS["micro"].config("micro_gsm", "adaswitch", 0, floor=0.25).rule.floor == 0.25


def test_the_loss_and_the_divergence_of_the_switch_are_set_apart():
    config = PRESETS["micro"].config("micro_gsm", "adaswitch", 0, loss="reverse_kl", divergence="total_variation", floor=0.5)
    method = config.resolve_method()
    assert (method.loss, method.policy.divergence) == ("reverse_kl", "total_variation")
    assert PRESETS["micro"].config("micro_gsm", "switch", 0).resolve_method().policy.divergence == "jensen_shannon"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("status --preset smoke --method adaswich", "unknown method 'adaswich': use one of sft"),
        ("status --preset smoke --task gsm", "unknown task 'gsm': use one of micro_gsm, micro_dialog, micro_gsm_plus"),
        ("run --preset smoke --seed x", "seeds are whole numbers or all, got x"),
        ("teachers --task gsm", "no teacher for 'gsm'"),
        ("status --preset smollm2 --study seeds --method adaswich", "unknown method 'adaswich'"),
        ("status --preset smollm2 --study seeds --method skd", "smollm2 has no such runs in seeds"),
    ],
)
def test_commands_say_what_is_wrong_in_one_line(command, message, capsys, results):
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_status_counts(results, capsys):
    assert main("status --preset smoke --task micro_gsm --method sft kd --seed 0 1".split()) == 0
    assert "0 of 4 runs of smoke are done." in capsys.readouterr().out


def test_what_is_missing_says_how_to_make_it(results):
    with pytest.raises(FileNotFoundError, match="run --preset smoke"):
        records.read_table(results, "metrics")
    with pytest.raises(FileNotFoundError, match="teachers --task nothing"):
        load_teacher("nothing")
    with pytest.raises(ValueError, match="unknown preset 'fast': use one of smoke, quick, micro"):
        preset("fast")


def test_all_seeds_of_a_study_are_those_of_the_study(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    assert main(["status", "--preset", "smollm2", "--study", "seeds"]) == 0
    told = capsys.readouterr().out
    assert all(f"{method}-s{seed}" in told for method in ("onpolicy", "adaswitch") for seed in (1, 2)) and "0 of 4 runs" in told
    assert main(["status", "--preset", "smollm2", "--study", "seeds", "--seed", "2", "--method", "onpolicy"]) == 0
    assert "0 of 1 runs" in capsys.readouterr().out


def test_a_run_leaves_no_model_behind(results):
    gc.collect()
    before = models_in_memory()
    assert run(SMOKE.config("micro_dialog", "kd", 0)) and models_in_memory() == before


def test_memory_is_given_back_after_the_steps_of_large_models():
    class Model:
        def __init__(self, size):
            self.num_parameters = lambda: size

    callback, called = experiments._GivesBack(), []
    callback.trim = called.append
    for size in (1_000_000, 100_000_000):
        callback.on_step_end(None, None, None, Model(size))
    assert called == [0]


def models_in_memory():
    return sum(issubclass(type(thing), PreTrainedModel) for thing in gc.get_objects())
