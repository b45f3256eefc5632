"""Runs on models and data that exist: the presets `paper` and `smollm2`, on tiny models of the same architectures."""

import json

import pytest
import torch
from helpers import SMALL, saved

from adaswitch_lib import load_pair
from adaswitch_lib.experiments import PRESETS, run
from adaswitch_lib.experiments.config import Pretrained, SFTConfig
from adaswitch_lib.experiments.paths import results_dir
from adaswitch_lib.experiments.recipes import TEACHERS
from adaswitch_lib.experiments.records import read_table, reference_scores
from adaswitch_lib.experiments.reference_scores import score_references
from adaswitch_lib.experiments.tasks import TASKS, limited
from adaswitch_lib.experiments.teachers import load_teacher, train_teacher
from adaswitch_lib.models import with_weights_in


@pytest.mark.parametrize(("architecture", "task"), [("qwen2", "gsm8k"), ("llama", "dialogsum"), ("gemma", "gsm8k")])
def test_the_papers_preset_runs_on_pairs_of_unequal_vocabularies(real_data, architecture, task):
    teacher, student = saved(real_data, architecture, more=(16, 8))
    start = SFTConfig(Pretrained(student), num_rows=0, steps=0)
    config = PRESETS["paper"].config(task, "adaswitch", 0, teacher=teacher, initial_student=start, variant="", **SMALL)
    assert run(config)
    results = results_dir("paper")
    score_references([config])
    (told,) = read_table(results, "runs").to_dict("records")
    assert told["teacher"] == teacher and told["initial.size.source"] == student and not told["collapsed"]
    assert set(read_table(results, "items").task) == ({"gsm8k", "gsm_plus"} if task == "gsm8k" else {"dialogsum"})
    switches = read_table(results, "switches")
    assert len(switches) == 2 and switches.loss.gt(0).all() and switches.length.le(16).all()
    assert set(reference_scores(results).method) == {"teacher", "initial"}


def test_the_papers_preset_names_the_papers_pairs():
    grid = PRESETS["paper"].config("gsm_plus", "adaswitch", 0)
    assert (grid.task, grid.teacher, grid.initial_student.size.source) == (
        "gsm8k",
        "Qwen/Qwen2.5-3B-Instruct",
        "Qwen/Qwen2.5-0.5B-Instruct",
    )
    llama = PRESETS["paper"].study("llama")[0]
    assert (llama.teacher, llama.initial_student.size.source) == (
        "meta-llama/Llama-3.2-3B-Instruct",
        "meta-llama/Llama-3.2-1B-Instruct",
    )
    with pytest.raises(ValueError, match="unknown task .micro_gsm.: use one of dialogsum"):
        PRESETS["paper"].config("micro_gsm", "adaswitch", 0)


def test_a_teacher_is_an_adapter_that_does_not_name_this_machine(real_data, monkeypatch):
    teacher, _ = saved(real_data)
    monkeypatch.setitem(TEACHERS, "dialogsum", SFTConfig(Pretrained(teacher, lora_rank=2), 8, steps=2, batch_size=2))
    folder = train_teacher("dialogsum")
    assert {file.name for file in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
        "sha256.json",
    }
    adapter = json.loads((folder / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == teacher  # its source, as the config names it
    assert "CC BY-NC-SA" in (folder / "README.md").read_text()
    model, tokenizer = load_teacher("dialogsum")
    plain = load_pair(teacher, teacher).teacher
    ids = torch.arange(4, 12)[None]
    assert not torch.equal(model(ids).logits, plain(ids).logits)  # it has learned
    start = SFTConfig(Pretrained(teacher, layers=(0, 3)), num_rows=4, steps=1, batch_size=2)
    config = PRESETS["smollm2"].config("dialogsum", "kd", 0, initial_student=start, variant="", **SMALL)
    assert config.teacher and run(config)
    (told,) = read_table(results_dir("smollm2"), "runs").to_dict("records")
    assert told["initial.size.layers"] == "(0, 3)"


def test_what_a_run_cannot_do_is_said_before_it_begins(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="does not divide into micro-batches of 3"):
        PRESETS["smollm2"].config("dialogsum", "kd", 0, micro_batch=3)
    with pytest.raises(ValueError, match="lora_rank is for teachers"):
        PRESETS["smollm2"].config("dialogsum", "kd", 0, initial_student=SFTConfig(Pretrained("smollm2", lora_rank=2), 8, steps=2))
    with pytest.raises(ValueError, match="'gpt2' is not the teacher of micro_gsm"):
        load_teacher("micro_gsm", "gpt2")
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="teachers --task dialogsum"):
        load_teacher("dialogsum")


def test_positions_are_not_rounded_with_the_weights():
    model = with_weights_in(load_pair("tiny").teacher, torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_rows_that_are_too_long_are_left_out_but_for_test(real_data, pair):
    task = limited(TASKS["dialogsum"], pair.tokenizer, max_prompt_tokens=20, max_new_tokens=16)
    assert len(TASKS["dialogsum"].load("train", 100, 0)) == 12
    rows = task.load("train", 100, 0)
    assert len(rows) == 8 and len(task.load("train", 5, 0)) == 5
    assert len(task.load("test", 100, 0)) == 1 and task.max_new_tokens == 16
    assert len(limited(task, pair.tokenizer, max_new_tokens=3).load("train", 100, 0)) == 0  # three words, and EOS
    assert limited(task, pair.tokenizer) is task
