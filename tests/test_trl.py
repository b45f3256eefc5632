"""AdaSwitchTrainer: TRL's trainer with our rollouts."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import peft
import pytest
import torch
from datasets import Dataset, IterableDataset
from helpers import same_text
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser
from trl import DistillationConfig, DistillationTrainer
from trl_pair import CHATS, PROMPTS, RULE, SETTINGS, config, save_pair, trainer

from adaswitch_lib import AdaSwitch, Source, StopAtSwitch, SwitchRule, completion_logits, distillation_loss, generate, load_pair
from adaswitch_lib.__main__ import main
from adaswitch_lib.trl import POLICIES, AdaSwitchConfig, AdaSwitchTrainer, check_trl

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    save_pair(folder)
    return folder


def models(folder):
    return [AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32) for name in ("teacher", "student")]


def losses(made):
    return [entry["loss"] for entry in made.state.log_history if "loss" in entry]


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_from_chats_to_an_adapter_that_loads(name, folder, tmp_path):
    lora = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    settings = {"policy": name, "bf16": True, "save_strategy": "steps", "save_steps": 1}
    made = trainer(folder, tmp_path / "whole", peft_config=lora, **settings)
    made.train()
    made.save_model()
    assert "2510.07842" in (tmp_path / "whole" / "README.md").read_text()
    resumed = trainer(folder, tmp_path / "again", peft_config=lora, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-1"))
    assert len(losses(made)) == 2 and losses(resumed)[-1] == losses(made)[-1]
    assert same_text(resumed.written[0][-1], made.written[1][-1])
    base, tokenizer = models(folder)[1], AutoTokenizer.from_pretrained(tmp_path / "whole")
    untrained = base.lm_head.weight.clone()
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "whole")
    assert torch.equal(loaded.get_output_embeddings().weight, untrained)
    trained = {key: weight for key, weight in loaded.state_dict().items() if "lora_B" in key}
    assert trained and all(weight.abs().sum() > 0 for weight in trained.values())
    ids = tokenizer.apply_chat_template(CHATS[0], add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert loaded.generate(**ids, max_new_tokens=4, do_sample=False).shape[1] > ids["input_ids"].shape[1]


def test_a_full_student_is_saved_as_it_came(folder, tmp_path):
    made = trainer(folder, tmp_path)
    made.train()
    made.save_model()
    loaded, before = AutoModelForCausalLM.from_pretrained(tmp_path), models(folder)[1]
    shapes = {key: weight.shape for key, weight in before.state_dict().items()}
    assert {key: weight.shape for key, weight in loaded.state_dict().items()} == shapes
    assert not torch.equal(loaded.lm_head.weight[:200], before.lm_head.weight[:200])


@pytest.mark.parametrize("name", POLICIES)
def test_texts_are_those_of_generate(name, folder, tmp_path):
    made = trainer(folder, tmp_path, policy=name, max_steps=1)
    made.train()
    prompt_ids, seeds, rollout = made.written[0]
    tokenizer = AutoTokenizer.from_pretrained(folder / "student", padding_side="left")
    assert tokenizer.decode(prompt_ids[0]) in [
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in CHATS
    ]
    encoded = tokenizer.pad({"input_ids": prompt_ids}, return_tensors="pt")
    again = generate(
        made.policy,
        *models(folder),
        encoded["input_ids"],
        encoded["attention_mask"],
        max_new_tokens=20,
        row_seeds=seeds,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        vocab_size=len(tokenizer),
    )
    assert same_text(rollout, again)


def test_loss_and_gradient_are_ours(folder, tmp_path):
    made = trainer(folder, tmp_path, max_steps=1, optim="sgd", learning_rate=0.1, max_grad_norm=0.0, lr_scheduler_type="constant")
    made.train()
    rollout, (teacher, student) = made.written[0][-1], models(folder)
    with torch.no_grad():
        teacher_logits = completion_logits(teacher, rollout)
    loss = distillation_loss(teacher_logits, completion_logits(student, rollout), rollout.completion_mask)
    loss.backward()
    assert losses(made) == [pytest.approx(float(loss), abs=1e-5)]
    for (name, after), before in zip(made.model.named_parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(after.data, before.data - 0.1 * before.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_the_log_and_the_table_say_who_wrote_what(folder, tmp_path):
    made = trainer(folder, tmp_path, log_completions=True, num_completions_to_print=0)
    made.train()
    for step, (_, _, rollout) in enumerate(made.written, start=1):
        entry = made.state.log_history[step - 1]
        switched, real = rollout.switch_index >= 0, rollout.completion_mask.bool()
        at = rollout.switch_index[switched]
        assert entry["switch_rate"] == float(switched.float().mean())
        assert entry["switch_position"] == pytest.approx(float(at.float().mean()))
        assert entry["switch_divergence"] == pytest.approx(float(rollout.divergence[switched].gather(1, at[:, None]).mean()))
        assert entry["teacher_share"] == pytest.approx(float((rollout.source[real] == Source.TEACHER).float().mean()))
        table = pd.read_parquet(tmp_path / "completions" / f"completions_0000{step}.parquet")
        for runs, ids, n, switch in zip(table.completion, rollout.completion_ids, real.sum(-1), rollout.switch_index, strict=True):
            parts = [ids[:n]] if switch < 0 else [ids[:switch], ids[switch:n]]
            texts = [made.processing_class.decode(part, skip_special_tokens=True) for part in parts]
            assert [run["content"] for run in runs] == texts
            assert [run["role"] for run in runs] == ["student", "teacher"][: len(parts)]


def test_evaluation_writes_by_the_policy_and_leaves_the_model_training(folder, tmp_path):
    made = trainer(folder, tmp_path)
    made.model.train()
    scores = made.evaluate(PROMPTS.select(range(4)))
    assert scores["eval_switch_rate"] > 0 and scores["eval_loss"] > 0
    made.model.train()
    assert made.evaluate(PROMPTS.select(range(4)))["eval_loss"] == scores["eval_loss"]


def test_a_stream_and_a_policy_with_settings_of_ones_own(folder, tmp_path):
    stream = IterableDataset.from_generator(lambda: ({"prompt": chat} for chat in CHATS))
    made = trainer(folder, tmp_path, writer=AdaSwitch(SwitchRule(1.0, 2, 1), "total_variation"), dataset=stream, max_steps=1)
    made.train()
    assert made.written[0][-1].switch_index.max() >= 1


def test_options_and_files_set_the_rule(tmp_path):
    parser = HfArgumentParser(AdaSwitchConfig)
    (options,) = parser.parse_args_into_dataclasses(
        f"--output_dir {tmp_path} --policy stop --multiplier 4 --window 5 --min_history 6 --floor 0.5 --use_cpu".split()
    )
    (tmp_path / "run.yaml").write_text("output_dir: student\npolicy: random\nmultiplier: 2.5\nuse_cpu: true\n")
    (file,) = parser.parse_yaml_file(str(tmp_path / "run.yaml"))
    assert options.make_policy() == StopAtSwitch(SwitchRule(4.0, 5, 6, 0.5))
    assert file.make_policy() == POLICIES["random"].__class__(SwitchRule(2.5))
    assert AdaSwitchConfig(str(tmp_path), use_cpu=True).make_policy() == AdaSwitch() and options.beta == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "gkd"}, "unknown policy 'gkd'"),
        ({"multiplier": 0.0}, "multiplier"),
        ({"top_p": 0.9, "min_p": 0.1}, "leave out top_p, min_p"),
        ({"policy": "skd", "use_vllm": True}, "leave out use_vllm"),
        ({"policy": "stop", "min_history": 0}, "min_history to 1"),
        ({"max_completion_length": 250}, "row 0: a prompt"),
        ({"writer": "adaswitch"}, "policy must be one like"),
        ({"dataset": Dataset.from_list([{"messages": CHATS[0]}])}, "no column prompt, but messages"),
        ({"dataset": Dataset.from_list([{"prompt": "one"}, {"prompt": ""}])}, "row 1: an empty prompt"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(changes, message, folder, tmp_path):
    with pytest.raises(ValueError, match=message):
        trainer(folder, tmp_path, **changes)


def test_models_that_do_not_go_together_are_refused(folder, tmp_path):
    pair, args, (teacher, _) = load_pair("tiny"), config(tmp_path), models(folder)
    pair.tokenizer.save_pretrained(tmp_path / "other")
    pair.teacher.save_pretrained(tmp_path / "other")
    for other, settings, message in [
        (str(tmp_path / "other"), args, "different tokenizers"),
        (pair.teacher, args, "the teacher scores only 29 ids"),
        (teacher, DistillationConfig(str(tmp_path), use_cpu=True, bf16=False), "must be an AdaSwitchConfig"),
    ]:
        with pytest.raises(ValueError, match=message):
            AdaSwitchTrainer(str(folder / "student"), other, settings, PROMPTS)
    with pytest.raises(ValueError, match="are one model"):
        AdaSwitchTrainer(teacher, teacher, args, PROMPTS)


def test_a_trl_that_has_changed_inside_is_named():
    class Renamed(DistillationTrainer):
        def _generate_single_turn(self, prompts):
            return []

    check_trl(DistillationTrainer)
    with pytest.raises(ImportError, match=r"_generate_single_turn: pip install 'trl>="):
        check_trl(Renamed)


def test_the_script_of_the_page_runs_as_it_stands(tmp_path):
    page = (ROOT / "docs" / "own_models.md").read_text()
    (tmp_path / "script.py").write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "student")
    assert "TEACHER" in done.stdout or "STUDENT" in done.stdout


def answered(file):
    """Chats with their answers, as most published ones."""
    rows = [{"messages": [*chat, {"role": "assistant", "content": "One, two."}]} for chat in CHATS]
    Dataset.from_list(rows).to_json(file)
    return file


@pytest.mark.parametrize("is_file", [True, False])
def test_the_command_trains_on_chats_by_a_file_of_settings(is_file, folder, tmp_path, capsys):
    out, data = tmp_path / "out", tmp_path / "data"
    data.mkdir()
    file = answered(data / "chats.jsonl")
    settings = SETTINGS | RULE | {"policy": "stop", "use_cpu": True, "use_peft": True, "lora_target_modules": ["all-linear"]}
    (tmp_path / "run.yaml").write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    options = {"model": folder / "student", "teacher_model": folder / "teacher", "dataset_name": file if is_file else data}
    options |= {"config": tmp_path / "run.yaml", "output_dir": out, "policy": "adaswitch"}
    assert main(["train", *(str(part) for name, value in options.items() for part in (f"--{name}", value))]) == 0
    assert "switch_rate" in capsys.readouterr().out
    assert torch.load(out / "training_args.bin", weights_only=False).make_policy() == AdaSwitch(SwitchRule(1.2, 4, 2))
    assert peft.PeftModel.from_pretrained(models(folder)[1], out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "name both models and the data: --model, --teacher_model, --dataset_name."),
        ("--model a --teacher_model b --dataset_name rows.txt", "rows.txt must be one of .json, .jsonl, .parquet"),
        ("--model a --teacher_model b --dataset_name rows.json", "no prompt among text"),
        ("--model a --teacher_model b --dataset_name nowhere/x", "nowhere/x"),
        ("--policy gkd", "unknown policy 'gkd'"),
        ("--max_steps many", "--max-steps: invalid int value: 'many'"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    Path("rows.txt").touch()
    Path("rows.json").write_text('{"text": "one"}\n')
    assert main(["train", "--use_cpu", *options.split()]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and message in error[0]


def test_the_example_of_chats_trains_an_adapter(folder, tmp_path):
    answered(tmp_path / "chats.jsonl")
    options = {"model": folder / "student", "teacher": folder / "teacher", "chats": tmp_path / "chats.jsonl"} | SETTINGS
    options = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    arguments = ["distill_chat.py", *options, "--output_dir", str(tmp_path / "out"), "--use_cpu", "true"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        runpy.run_path(str(ROOT / "examples" / "distill_chat.py"), run_name="__main__")
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
