"""Runs: ids, a pipeline that resumes, grids and commands; on the smoke preset."""

import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import pandas as pd
import psutil
import pytest
from helpers import obeys_interrupts
from transformers import PreTrainedModel

from adaswitch_lib import METHODS, OnPolicy, RolloutTrainer, __version__
from adaswitch_lib.__main__ import main
from adaswitch_lib.experiments import PRESETS, evaluation, final_evaluation, records, reference_scores, run, run_all, training
from adaswitch_lib.experiments.config import SEEDS
from adaswitch_lib.experiments.initial_students import initial_student_folder
from adaswitch_lib.experiments.locks import locked
from adaswitch_lib.experiments.paths import results_dir
from adaswitch_lib.experiments.presets import preset
from adaswitch_lib.experiments.recipes import teacher_folder
from adaswitch_lib.experiments.resuming import last_checkpoint
from adaswitch_lib.experiments.teachers import load_teacher
from adaswitch_lib.methods import Method
from adaswitch_lib.rollout import NonFiniteLogits, Source
from adaswitch_lib.switching import SwitchRule

SMOKE = PRESETS["smoke"]
TABLES = ("runs", "metrics", "switches", "items", "traces")
MACHINE = ["train_seconds", "write_seconds", "step_seconds", "peak_memory_mb"]


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    return results_dir("smoke")


def tables(results):
    return {name: records.read_table(results, name).drop(columns=MACHINE, errors="ignore") for name in TABLES}


def test_a_run_leaves_tidy_tables_and_is_not_made_twice(results):
    config = SMOKE.config("micro_gsm", "adaswitch", 0)
    assert run(config)
    made = tables(results)
    assert made["runs"].run.tolist() == [config.id] == made["runs"].paired_with.tolist()
    told = made["runs"].iloc[0]
    assert told["rule.multiplier"] == 3.0 and told["initial.size.layers"] == 2 and told["policy.divergence"] == "forward_kl"
    assert told["commit"] and not told["collapsed"] and told["warmup"] == 0.05
    assert len(made["switches"]) == config.steps
    metrics = made["metrics"].set_index(["split", "task", "step", "metric"]).value.sort_index()
    assert set(made["metrics"].query("split == 'validation'").step) == {0, 3}
    assert 0 <= metrics.loc["test", "micro_gsm", 3, "accuracy"] <= 1
    assert 0 <= metrics.loc["test", "micro_gsm_plus", 3, "accuracy_reversed"] <= 1
    assert made["items"].groupby("task").size().to_dict() == {"micro_gsm": 32, "micro_gsm_plus": 32}
    assert set(made["traces"].step) == {0, 3} and set(made["traces"].source) <= {"student", "teacher"}
    assert json.loads((results / "runs" / config.id / "provenance.json").read_text())["packages"]["torch"]
    assert not run(config)
    folders = {path.name for path in (results / "work").iterdir() if path.is_dir()}
    assert folders == {initial_student_folder(config).name}


def test_each_room_of_a_run_is_entered_once(results):
    """A room may be left for what it uses, but not for another room, and no room calls one that a run has left."""
    rooms = ("preparation", "training", "final_evaluation", "recording")
    path, config = [], SMOKE.config("micro_dialog", "kd", 0)

    def note(frame, event, argument):
        module = frame.f_globals.get("__name__", "").rpartition(".")[2]
        if event == "call" and module in rooms and path[-1:] != [module]:
            path.append(module)

    sys.setprofile(note)
    try:
        run(config)
    finally:
        sys.setprofile(None)
    assert path == list(rooms)


def test_a_run_that_another_process_is_making_is_left_to_it(results, caplog):
    config = SMOKE.config("micro_gsm", "sft", 0)
    with locked(results / "work" / config.id):
        assert not run(config)
    assert records.finished(results) == set() and "another process is making it" in caplog.text
    first, second = (replace(config, variant=f"rates.{rate}") for rate in (1, 2))
    with locked(results / "work" / first.id):
        assert run(second)  # a dot in a name does not make two runs one


@pytest.mark.parametrize("where", ["in a step", "in the test", "before the record"])
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
            patch.setattr(final_evaluation, "evaluate", stop)
        else:
            patch.setattr(records.os, "replace", stop)
        run(config)
    assert run(config)
    for name, table in tables(results_dir("smoke")).items():
        pd.testing.assert_frame_equal(table, whole[name])


def truncated(checkpoint):
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def without_optimiser(checkpoint):
    (checkpoint / "optimizer.pt").unlink()


def half_written(checkpoint):
    (checkpoint / "sha256.json").unlink()


def copied(checkpoint):
    shutil.copytree(checkpoint, checkpoint.with_name("checkpoint-4 (copy)"))
    truncated(checkpoint)


@pytest.mark.parametrize("damage", [truncated, without_optimiser, half_written, copied])
@pytest.mark.parametrize("left", [1, 0], ids=["one before it", "none before it"])
def test_a_damaged_checkpoint_is_not_gone_on_from(damage, left, results, tmp_path, monkeypatch, caplog):
    """The one before it, or the beginning, ends with the same tables."""
    config = replace(SMOKE.config("micro_dialog", "onpolicy", 0), steps=6, eval_every=2)
    run(config)
    whole = tables(results)
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path / "damaged"))
    work = results_dir("smoke") / "work" / config.id
    step = RolloutTrainer.training_step
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            RolloutTrainer,
            "training_step",
            lambda self, *row: exec("raise KeyboardInterrupt") if self.state.global_step == 5 else step(self, *row),
        )
        run(config)
    assert sorted(path.name for path in work.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    if not left:
        shutil.rmtree(work / "checkpoint-2")
    damage(work / "checkpoint-4")
    assert run(config)
    assert "checkpoint-4 is damaged" in caplog.text
    assert f"going on from {'checkpoint-2' if left else 'the beginning'}" in caplog.text
    for name, table in tables(results_dir("smoke")).items():
        pd.testing.assert_frame_equal(table, whole[name])


def test_checkpoints_are_told_from_other_folders(tmp_path):
    for name in ("checkpoint-4 (copy)", "checkpoint-x", "other"):
        (tmp_path / name).mkdir()
    assert last_checkpoint(tmp_path) is None and len(list(tmp_path.iterdir())) == 3


def test_a_damaged_initial_student_is_made_again_and_a_damaged_teacher_is_named(results, caplog, tmp_path, monkeypatch):
    config = SMOKE.config("micro_dialog", "sft", 0)
    run(config)
    before = tables(results)["metrics"]
    truncated(initial_student_folder(config))
    shutil.rmtree(results / "runs")
    assert run(config) and "is damaged (model.safetensors is not what was written): it is trained again" in caplog.text
    pd.testing.assert_frame_equal(tables(results)["metrics"], before)
    for name in ("model.safetensors", "tokenizer.json"):
        folder = tmp_path / name / "teacher"
        shutil.copytree(teacher_folder("micro_dialog"), folder)
        (folder / name).write_bytes((folder / name).read_bytes()[:1000])
        monkeypatch.setattr("adaswitch_lib.experiments.teachers.teacher_folder", lambda task, folder=folder: folder)
        with pytest.raises(ValueError, match=f"teacher in .* is damaged .{name} is not what was written.: .*teachers --task"):
            load_teacher("micro_dialog")
        with pytest.raises(ValueError, match=f"the model {folder} cannot be loaded: "):
            load_teacher("micro_dialog", str(folder))


def test_a_grid_that_is_killed_and_interrupted_ends_as_one_that_was_not(results, tmp_path, monkeypatch):
    run_all(SMOKE.configs(["micro_dialog"], ["sft", "gkd"], [0]))
    whole = tables(results)
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path / "killed"))
    asked = "run --preset smoke --task micro_dialog --method sft gkd --seed 0"
    command = [sys.executable, "-m", "adaswitch_lib", *asked.split()]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as in these tests; more would round otherwise
    kill, interrupt = signal.SIGKILL, signal.SIGINT
    for signal_, jobs in ((kill, 1), (interrupt, 0), (kill, 0), (interrupt, 1), (kill, 1)):
        process = subprocess.Popen(
            [*command, f"--jobs={jobs}"],
            env=one_thread,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=obeys_interrupts,
        )
        first = psutil.Process(process.pid)
        while first.cpu_times().user < 1:  # before that, which may take any time, it is Python's to say what an interrupt does
            time.sleep(0.1)
        time.sleep(random.uniform(2, 11))
        family = first.children(recursive=True)
        (os.killpg if signal_ == interrupt else os.kill)(process.pid, signal_)
        _, error = process.communicate(timeout=10)
        assert not psutil.wait_procs(family, timeout=10)[1]  # no worker goes on by itself
        assert process.returncode in (0, -9, 130) and "Traceback" not in error
    subprocess.run(command, env=one_thread, check=True, capture_output=True)
    for name, table in tables(results_dir("smoke")).items():
        pd.testing.assert_frame_equal(table, whole[name])


def test_a_collapsed_student_is_counted_and_a_failed_run_is_named(results):
    collapsing = replace(SMOKE.config("micro_dialog", "onpolicy", 0), learning_rate=1e12)
    failing = replace(SMOKE.config("micro_dialog", "sft", 0), teacher="no/such teacher")
    good = SMOKE.config("micro_dialog", "sft", 0)
    with pytest.raises(RuntimeError, match=f"^{failing.id} failed: [^\n]+$"):
        run_all([failing, collapsing, good], jobs=0)
    made = tables(results)
    assert made["runs"].set_index("run").collapsed.to_dict() == {collapsing.id: True, good.id: False}
    scores = made["metrics"].query("run == @collapsing.id and split == 'test' and metric == 'facts'").value
    assert scores.tolist() == [0.0]


@pytest.mark.parametrize("room", [training, final_evaluation])
def test_a_collapse_that_an_evaluation_finds_counts_from_there_on(room, results, monkeypatch):
    """SFT's student writes only there; the trainer counts the step before it evaluates."""
    config = replace(SMOKE.config("micro_dialog", "sft", 0), traced_rows=0)
    seen, allowed = [], 1 if room is training else 0

    def broken(*arguments):
        seen.append(1)
        if len(seen) > allowed:
            raise NonFiniteLogits(Source.STUDENT, "NaN logits")
        return evaluation.evaluate(*arguments)

    monkeypatch.setattr(room, "evaluate", broken)
    assert run(config)
    steps = tables(results)["metrics"].query("split == 'validation' and metric == 'all_facts'").set_index("step").value
    assert steps.index.tolist() == list(range(0, config.steps + 1, config.eval_every))
    assert room is final_evaluation or (steps.iloc[1:] == 0).all()
    test = tables(results)["metrics"].query("split == 'test' and metric == 'all_facts'").value
    assert tables(results)["runs"].collapsed.all() and len(seen) == allowed + 1 and test.tolist() == [0.0]


def test_a_broken_teacher_is_no_collapsed_student(results, monkeypatch):
    def broken(*arguments):
        raise NonFiniteLogits(Source.TEACHER, "NaN logits")

    monkeypatch.setattr(training, "train_or_resume", broken)
    with pytest.raises(NonFiniteLogits, match="the teacher gives NaN logits. Check its weights"):
        run(SMOKE.config("micro_dialog", "kd", 0))
    assert not records.finished(results)


def test_a_run_needs_no_preset_of_its_name(results):
    config = replace(SMOKE.config("micro_dialog", "sft", 0), preset="mine")
    assert run(config) and config.id in records.finished(results_dir("mine"))


DECIDING = {
    "teacher": "00000000",
    "num_prompts": 7,
    "steps": 7,
    "batch_size": 128,
    "learning_rate": 7.0,
    "eval_every": 7,
    "validation_rows": 7,
    "test_rows": 7,
    "traced_rows": 7,
    "multiplier": 7.0,
    "floor": 7.0,
    "loss": "reverse_kl",
    "divergence": "jensen_shannon",
    "micro_batch": 8,
    "beta2": 0.9,
    "weight_decay": 0.1,
    "warmup": 0.1,
    "min_rate": 0.2,
    "max_prompt_tokens": 7,
    "max_new_tokens": 7,
    "initial_student": replace(PRESETS["micro"].base.initial_student, beta2=0.9),
}


@pytest.mark.parametrize("name", DECIDING)
def test_what_decides_a_run_is_in_its_id(name):
    config = replace(PRESETS["micro"].config("micro_gsm", "adaswitch", 0), rule=SwitchRule(floor=0.0))
    assert config.changed(**{name: DECIDING[name]}).id[:-8] == config.id[:-8] != config.changed(**{name: DECIDING[name]}).id[:-7]
    assert config.changed(**{name: DECIDING[name]}).id != config.id


def test_nothing_else_is_in_its_id():
    config = PRESETS["micro"].config("micro_gsm", "kd", 0)
    assert config.id.startswith("micro_gsm-kd-s0-") and PRESETS["micro"].config("micro_gsm_plus", "kd", 0) == config
    assert config.changed(multiplier=3).id == config.id  # as 3.0
    assert replace(config, preset="mine", paired_with="another").id == config.id
    assert replace(config, variant="short").id == config.id.replace("-s0", "-short-s0")
    skd = PRESETS["micro"].config("micro_gsm", "skd", 0)
    assert skd.changed(top_k=7).id != skd.id and skd.changed(top_k=5) == skd
    with pytest.raises(ValueError, match="KD has no setting top_k: it has loss"):
        config.changed(top_k=7)
    everything = PRESETS["micro"].configs(["micro_gsm", "micro_gsm_plus", "micro_dialog"], PRESETS["micro"].methods, [0, 1])
    assert len(everything) == len({config.id for config in everything}) == 2 * 13 * 2


def test_a_policy_of_ones_own_is_in_the_id(monkeypatch):
    @dataclass(frozen=True)
    class Mine(OnPolicy):
        patience: int = 3

    config = SMOKE.config("micro_dialog", "onpolicy", 0)
    ids = [config.id]
    monkeypatch.setitem(METHODS, "onpolicy", Method("Mine", Mine()))
    assert config.columns()["policy.patience"] == 3
    ids += [config.id, config.changed(patience=4).id]
    monkeypatch.setitem(METHODS, "onpolicy", Method("Mine", Mine(), data_share=0.5))
    ids += [config.id]
    assert len(set(ids)) == 4


def test_no_two_runs_of_a_preset_have_one_name_and_studies_are_known():
    for known in PRESETS.values():
        assert set(known.studies) <= set(records.STUDIES)
        names = [config.id.rsplit("-", 1)[0] for config in known.everything()]
        assert len(set(names)) == len(names)


def test_the_kept_results_are_those_of_the_presets_and_small():
    folder = teacher_folder("dialogsum").parents[2]
    kept = {name: set(records.read_table(folder / name, "runs").run) for name in ("micro", "smollm2")}
    wanted = {name: {config.id for config in PRESETS[name].everything()} for name in kept}
    assert kept["micro"] == wanted["micro"] and kept["smollm2"] <= wanted["smollm2"]
    in_git = subprocess.run(["git", "ls-files", "."], cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "micro/runs.csv" in in_git and sum((folder / name).stat().st_size for name in in_git) < 10e6
    assert not any(config.paired_with for config in PRESETS["micro"].configs(["micro_gsm"], ["kd"], [0]))


def test_a_rule_that_is_given_stands_as_it_is():
    rule = SwitchRule(multiplier=2.0, window=5, min_history=1, floor=0.0)
    config = PRESETS["micro"].config("micro_gsm", "adaswitch", 0, rule=rule)
    assert config.resolve_method().policy.rule == rule and config.variant.startswith("adhoc.")
    assert config.paired_with == PRESETS["micro"].config("micro_gsm", "adaswitch", 0).id
    assert PRESETS["micro"].config("micro_gsm", "adaswitch", 0, floor=0.25).rule.floor == 0.25


def test_the_loss_and_the_divergence_of_the_switch_are_set_apart():
    config = PRESETS["micro"].config("micro_gsm", "adaswitch", 0, loss="reverse_kl", divergence="total_variation", floor=0.5)
    method = config.resolve_method()
    assert (method.loss, method.policy.divergence) == ("reverse_kl", "total_variation")
    assert PRESETS["micro"].config("micro_gsm", "switch", 0).resolve_method().policy.divergence == "jensen_shannon"
    ours, onpolicy = (
        next(run for run in PRESETS["micro"].study("divergences") if run.method == name and run.variant.endswith("reverse_kl"))
        for name in ("adaswitch", "onpolicy")
    )
    assert dict(ours.settings) == {"loss": "reverse_kl", "divergence": "reverse_kl"} and ours.rule.floor == 4.0
    assert dict(onpolicy.settings) == {"loss": "reverse_kl"} and onpolicy.rule.floor == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "a seed is a whole number from 0 to 9,999, got -1"),
        ({"seed": 10_000}, "from 0 to 9,999"),
        ({"steps": 0}, "steps must be 1 or more, got 0"),
        ({"batch_size": -1}, "batch_size must be 1 or more"),
        ({"micro_batch": 3}, "does not divide into micro-batches of 3"),
        ({"method": "adaswich"}, "unknown method 'adaswich'"),
    ],
)
def test_a_config_that_cannot_be_run_is_not_made(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SMOKE.config("micro_gsm", "kd", 0), **changes)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("status --preset smoke --method adaswich", "unknown method 'adaswich': use one of sft"),
        ("status --preset smoke --method all adaswich", "unknown method 'adaswich'"),
        ("status --preset smoke --task gsm", "unknown task 'gsm': use one of micro_"),
        ("reproduce --preset smoke --task all nope", "unknown task 'nope'"),
        ("reproduce --preset smoke --seed x", "--seed: a seed is a whole number from 0 to 9,999, or all; got x"),
        ("reproduce --preset smoke --seed -1", "got -1"),
        ("reproduce --preset smoke --seed all 10000", "got 10000"),
        ("reproduce --preset smoke --jobs=-1", "--jobs: runs at a time are a whole number, got -1"),
        ("reproduce --preset smoke --jobs 1.5", "--jobs: runs at a time are a whole number, got 1.5"),
        ("reproduce --preset smoke --job", "expected one argument"),
        ("reproduce --preset fast", "unknown preset 'fast': use one of smoke, quick, micro"),
        ("collect --preset fast", "unknown preset 'fast'"),
        ("status --preset micro --study floor", "unknown study 'floor': micro has divergences"),
        ("status --preset smoke --study floors nope", "unknown study 'nope'"),
        ("walk", "invalid choice: 'walk'"),
        ("", "required: command"),
        ("teachers --task gsm", "no teacher for 'gsm': use one of micro_gsm"),
        ("tune --task all gsm8k", "unknown task 'gsm8k': use one of micro_"),
        ("status --preset smollm2 --study rates --method adaswich", "unknown method 'adaswich'"),
        ("status --preset smollm2 --study rates --method skd", "smollm2 has no such runs in rates"),
    ],
)
def test_commands_say_what_is_wrong_in_one_line(command, message, capsys, results):
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("error: ")


def test_a_damaged_file_of_results_is_named_by_the_command(results, capsys):
    for run_ in ("a-aaaaaaaa", "b-aaaaaaaa"):
        records.add_run(results, run_, {"variant": "", "task": "x"}, {"metrics": pd.DataFrame({"step": [1]})})
    records.collect(results)
    file = results / "runs.csv"
    file.write_bytes(file.read_bytes()[:-9])
    assert main("status --preset smoke".split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(file) in error and "restore" in error


def test_both_are_reported_where_runs_and_reference_scores_fail(results, capsys, monkeypatch):
    def fail(text, kind):
        def failing(*row):
            raise kind(text)

        return failing

    monkeypatch.setattr("adaswitch_lib.experiments.runs.run_all", fail("run a failed: it did", RuntimeError))
    monkeypatch.setattr(reference_scores, "score_references", fail("no such file", OSError))
    assert main("reproduce --preset smoke".split()) == 2
    assert capsys.readouterr().err == "error: run a failed: it did\nreference scores: no such file\n"


def test_the_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"{__version__}\n"


def test_status_counts_and_collect_collects(results, capsys):
    assert main("status --preset smoke --task micro_gsm --method sft kd --seed 0 1".split()) == 0
    assert "0 of 4 runs of smoke are done." in capsys.readouterr().out
    run = SMOKE.config("micro_gsm", "sft", 0)
    records.add_run(results, run.id, run.columns(), {"metrics": pd.DataFrame({"step": [1]})})
    assert main("collect --preset smoke".split()) == 0 and "1 runs were collected" in capsys.readouterr().out
    assert main("status --preset smoke --task micro_gsm --method sft kd --seed 0 1".split()) == 0
    assert "1 of 4 runs of smoke are done." in capsys.readouterr().out


def test_reference_scores_are_written_by_one_process_at_a_time(results, monkeypatch):
    config, write = SMOKE.config("micro_dialog", "onpolicy", 0), reference_scores.write_table
    written = []

    def alone(table, file, **settings):
        with locked(results / "work" / "reference_scores", wait=False) as free:
            assert not free
        written.append(file.name)
        return write(table, file, **settings)

    monkeypatch.setattr(reference_scores, "write_table", alone)
    run(config)
    reference_scores.score_references([config])
    assert written == ["reference_scores.parquet"] * 2 + ["chance.csv"]
    reference_scores.score_references([config])
    assert len(written) == 3  # nothing is evaluated twice
    scores = records.reference_scores(results).set_index("method")
    assert set(scores.index) == {"teacher", "initial"} and set(scores.loc["teacher"].seed) == {-1}


def test_what_is_missing_says_how_to_make_it(results):
    with pytest.raises(FileNotFoundError, match="teachers --task nothing"):
        load_teacher("nothing")
    with pytest.raises(ValueError, match="unknown preset 'fast': use one of smoke, quick, micro"):
        preset("fast")
    assert len(SEEDS) == 10_000


def test_all_seeds_of_a_study_are_those_of_the_study(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    assert main(["status", "--preset", "micro", "--study", "floors", "--seed", "all"]) == 0
    told = capsys.readouterr().out
    assert all(f"floors.0.0-s{seed}" in told for seed in range(5)) and "0 of 20 runs" in told
    assert main(["status", "--preset", "micro", "--study", "floors", "--seed", "2"]) == 0
    assert "0 of 4 runs" in capsys.readouterr().out


def test_a_run_leaves_no_model_behind(results):
    gc.collect()
    before = models_in_memory()
    assert run(SMOKE.config("micro_dialog", "kd", 0)) and models_in_memory() == before


def test_memory_is_given_back_after_the_steps_of_large_models():
    class Model:
        def __init__(self, size):
            self.num_parameters = lambda: size

    callback, called = training._GivesBack(), []
    callback.trim = called.append
    for size in (1_000_000, 100_000_000):
        callback.on_step_end(None, None, None, Model(size))
    assert called == [0]


def models_in_memory():
    return sum(issubclass(type(thing), PreTrainedModel) for thing in gc.get_objects())
