"""The trainer: every method, one normalisation, the same step however it is cut up."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adaswitch_lib import METHODS, Rollout, RolloutTrainer, Source, SwitchRule
from adaswitch_lib.data import RowCollator, encode_rows
from adaswitch_lib.experiments.config import ModelSize
from adaswitch_lib.experiments.pretraining import new_model
from adaswitch_lib.experiments.resuming import arguments, train_or_resume
from adaswitch_lib.experiments.tasks import TASKS, micro_tokenizer
from adaswitch_lib.methods import method
from adaswitch_lib.trainer import row_seed

TOKENIZER = micro_tokenizer()
ROWS = encode_rows(TASKS["micro_dialog"].load("train", 48, 0), TOKENIZER)
SETTINGS = {"rule": SwitchRule(multiplier=1.2, window=4, min_history=2), "initial": 0.003}


def trainer(folder, name="adaswitch", student=None, rows=ROWS, **changes):
    arguments_ = {
        "max_steps": 2,
        "per_device_train_batch_size": 16,
        "learning_rate": 1e-3,
        "max_new_tokens": 20,
        "save_strategy": "no",
    }
    made = RolloutTrainer(
        student or new_model(ModelSize(1, 32), TOKENIZER, 1),
        new_model(ModelSize(2, 32), TOKENIZER, 0),
        METHODS[name].with_settings(**{key: value for key, value in SETTINGS.items() if hasattr(METHODS[name].policy, key)}),
        arguments(folder, 0, **(arguments_ | changes)),
        rows,
        TOKENIZER,
    )
    made.written = []
    write = made.write
    made.write = lambda *row: made.written.append(write(*row)) or made.written[-1]
    return made


def losses(made):
    return [entry["loss"] for entry in made.state.log_history if "loss" in entry]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_a_step_on_the_text_that_it_names(name, tmp_path):
    made = trainer(tmp_path, name)
    before = [weight.clone() for weight in made.model.parameters()]
    made.train()
    assert all(map(math.isfinite, losses(made))) and len(losses(made)) == 2
    assert any(not torch.equal(a, b) for a, b in zip(before, made.model.parameters(), strict=True))
    rollout = made.written[0]
    writers = set(rollout.source[rollout.completion_mask.bool()].tolist())
    student, teacher, data = Source.STUDENT, Source.TEACHER, Source.DATA
    expected = {
        **dict.fromkeys(("sft", "kd"), {data}),
        **dict.fromkeys(("seqkd", "offpolicy"), {teacher}),
        **dict.fromkeys(("onpolicy", "stop"), {student}),
        **dict.fromkeys(("gkd", "imitkd"), {student, data}),
    }.get(name, {student, teacher})
    assert writers == expected


def test_the_first_loss_of_sft_is_the_librarys_own(tmp_path):
    made = trainer(tmp_path, "sft", max_steps=1)
    model = new_model(ModelSize(1, 32), TOKENIZER, 1)
    made.train()
    rows = made.written[0]
    labels = rows.sequences.masked_fill(rows.attention_mask == 0, -100)
    labels[:, : rows.prompt_ids.shape[1]] = -100
    positions = (rows.attention_mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = model(input_ids=rows.sequences, attention_mask=rows.attention_mask, position_ids=positions, labels=labels).loss
    assert losses(made)[0] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("name", ["kd", "adaswitch", "gkd", "random"])
def test_accumulation_changes_nothing(name, tmp_path):
    whole = trainer(tmp_path, name)
    parts = trainer(tmp_path, name, per_device_train_batch_size=4, gradient_accumulation_steps=4)
    whole.train()
    parts.train()
    assert torch.equal(whole.written[0].completion_ids, parts.written[0].completion_ids)
    assert losses(whole) == pytest.approx(losses(parts), rel=1e-5)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_the_same_seed_writes_the_same_rows_and_another_one_others(tmp_path):
    first, second, other = trainer(tmp_path), trainer(tmp_path), trainer(tmp_path)
    other.args.seed = 7
    for made in (first, second, other):
        made.train()
    assert losses(first) == losses(second)
    assert all(torch.equal(a.completion_ids, b.completion_ids) for a, b in zip(first.written, second.written, strict=True))
    assert losses(first) != losses(other)


def test_a_run_that_ended_before_it_was_recorded_takes_no_further_step(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = trainer(tmp_path, **saving)
    train_or_resume(whole, tmp_path)
    again = trainer(tmp_path, **saving)
    model = train_or_resume(again, tmp_path)
    assert not again.written and losses(again) == losses(whole)
    for a, b in zip(whole.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_row_that_comes_round_again_gets_another_text(tmp_path):
    made = trainer(tmp_path, "onpolicy")
    rows = made.data_collator([ROWS[i] for i in range(4)])
    first = made.write(rows, [0, 1, 2, 3])
    made.state.global_step = 3
    assert not torch.equal(first.completion_ids, made.write(rows, [0, 1, 2, 3]).completion_ids)


def test_a_row_that_comes_twice_in_a_step_gets_two_texts(tmp_path):
    rows = ROWS.select([0] * 16)
    whole = trainer(tmp_path, "onpolicy", rows=rows, max_steps=1)
    parts = trainer(tmp_path, "onpolicy", rows=rows, max_steps=1, per_device_train_batch_size=4, gradient_accumulation_steps=4)
    for made in (whole, parts):
        made.train()
    assert len(set(map(tuple, whole.written[0].completion_ids.tolist()))) > 8
    assert torch.equal(whole.written[0].completion_ids, parts.written[0].completion_ids)


def test_a_stream_is_trained_on_in_its_order(tmp_path):
    parts = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "max_steps": 3}
    made = trainer(tmp_path, "kd", rows=ROWS.select(range(40)).to_iterable_dataset(), **parts)
    made.train()
    expected = [ROWS["completion_ids"][a : a + 16] for a in (0, 16, 0)]  # what does not fill an optimiser batch is left out
    written = [
        [row[real].tolist() for row, real in zip(rows.completion_ids, rows.completion_mask.bool(), strict=True)]
        for rows in made.written
    ]
    assert written == expected


def test_the_temperatures_of_sampling_and_loss_are_two(tmp_path):
    greedy, soft, plain = (
        trainer(tmp_path, "onpolicy", max_steps=1, **changes)
        for changes in ({"sampling_temperature": 0.0}, {"loss_temperature": 2.0}, {})
    )
    for made in (greedy, soft, plain):
        made.train()
    assert torch.equal(soft.written[0].completion_ids, plain.written[0].completion_ids)
    assert losses(soft)[0] < 0.5 * losses(plain)[0]  # about a quarter: KL is quadratic in small differences of logits
    assert not torch.equal(greedy.written[0].completion_ids, plain.written[0].completion_ids)


def test_rows_end_with_one_eos_which_is_learned_even_where_it_is_the_padding(tmp_path):
    tokenizer = micro_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    rows = encode_rows(TASKS["micro_gsm"].load("train", 2, 0), tokenizer)
    assert all(row["completion_ids"].count(tokenizer.eos_token_id) == 1 for row in rows)
    assert all(row["completion_ids"][-1] == tokenizer.eos_token_id for row in rows)
    batch = RowCollator(tokenizer.pad_token_id)(list(rows))
    assert batch.completion_mask.sum(-1).tolist() == [len(row["completion_ids"]) for row in rows]
    assert batch.prompt_mask.sum(-1).tolist() == [len(row["prompt_ids"]) for row in rows]


def test_logits_that_would_take_too_much_are_not_kept(tmp_path):
    kept, read_again = trainer(tmp_path), trainer(tmp_path, kept_logits_limit=1000)
    for made in (kept, read_again):
        made.train()
    assert kept.written[0].teacher_logits is not None and read_again.written[0].teacher_logits is None
    assert losses(kept) == pytest.approx(losses(read_again), rel=1e-4)


def test_what_is_logged_is_what_was_written(tmp_path):
    made = trainer(tmp_path)
    made.train()
    rollout, logged = made.written[0], made.state.log_history[0]
    switched = rollout.switch_index >= 0
    assert int(switched.sum()) > 0
    assert logged["switch_rate"] == pytest.approx(float(switched.float().mean()))
    assert logged["switch_position"] == pytest.approx(float(rollout.switch_index[switched].float().mean()))
    at = [float(rollout.divergence[i, rollout.switch_index[i]]) for i in switched.nonzero()[:, 0]]
    assert logged["switch_divergence"] == pytest.approx(sum(at) / len(at), rel=1e-5)
    assert logged["teacher_share"] == pytest.approx(float((rollout.source == 1).sum() / rollout.completion_mask.sum()))
    assert 0 < logged["entropy"] <= math.log(len(TOKENIZER))


def test_a_share_of_the_rows_is_data_row_by_row(tmp_path):
    made = trainer(tmp_path, "gkd", max_steps=1)
    made.train()
    of_data = [bool((row == Source.DATA).any()) for row in made.written[0].source]
    assert 2 <= sum(of_data) <= 14
    assert made.written[0].teacher_logits is None


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 5}
    whole = trainer(tmp_path / "whole", **saving)
    train_or_resume(whole, tmp_path / "whole")
    stopped = trainer(tmp_path / "stopped", **saving)
    training_step = stopped.training_step

    def fail_at_4(*row):
        if stopped.state.global_step == 4:
            raise KeyboardInterrupt
        return training_step(*row)

    stopped.training_step = fail_at_4
    with pytest.raises(KeyboardInterrupt):
        train_or_resume(stopped, tmp_path / "stopped")
    resumed = trainer(tmp_path / "stopped", **saving)
    train_or_resume(resumed, tmp_path / "stopped")
    assert losses(resumed) == losses(whole)
    assert torch.equal(resumed.written[-1].completion_ids, whole.written[-1].completion_ids)


TWO_PROCESSES = """
import json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_training import ROWS, losses, trainer
folder, size, parts = Path(sys.argv[1]), *map(int, sys.argv[2:])
results = []
for rows in (ROWS, ROWS.select([0] * 32), ROWS.to_iterable_dataset()):
    made = trainer(folder, rows=rows, per_device_train_batch_size=size, gradient_accumulation_steps=parts)
    made.train()
    weights = [float(weight.double().sum()) for weight in made.accelerator.unwrap_model(made.model).parameters()]
    results.append([losses(made), weights, made.state.log_history[0]])
if made.is_world_process_zero():
    (folder / "out.json").write_text(json.dumps(results))
made.accelerator.wait_for_everyone()
made.accelerator.end_training()  # or a process that ends first makes the other abort
"""


def test_two_processes_make_the_same_steps_as_one(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES.format(tests=str(Path(__file__).parent)))
    # --multi_gpu is what makes it start several processes; with the trainer's use_cpu they run on the CPU
    options = "--num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0"
    results = []
    for processes, size, parts in (("1", "16", "1"), ("2 --multi_gpu", "4", "2")):
        folder = tmp_path / size
        folder.mkdir()
        launch = f"-m accelerate.commands.launch {options} --num_processes {processes}".split()
        run = subprocess.run([sys.executable, *launch, str(script), str(folder), size, parts], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-2000:]
        results.append(json.loads((folder / "out.json").read_text()))
    for one, two in zip(*results, strict=True):
        assert one[0] == pytest.approx(two[0], rel=1e-4)  # sums in another order
        assert one[1] == pytest.approx(two[1], abs=1e-4)
        for name in ("switch_rate", "switch_position", "switch_divergence", "teacher_share", "length", "entropy"):
            assert one[2][name] == pytest.approx(two[2][name], abs=1e-5)


def test_lora_students_learn(tmp_path):
    peft = pytest.importorskip("peft", reason="peft is an optional extra")
    student = peft.get_peft_model(
        new_model(ModelSize(1, 32), TOKENIZER, 1), peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    )
    frozen = student.get_base_model().lm_head.weight.clone()
    made = trainer(tmp_path, student=student, learning_rate=1e-2)
    made.train()
    assert torch.equal(frozen, student.get_base_model().lm_head.weight)
    assert any(weight.abs().sum() > 0 for name, weight in student.named_parameters() if "lora_B" in name)


def test_methods_take_the_settings_that_they_have_and_no_others():
    rule = SwitchRule(multiplier=2.0)
    assert METHODS["adaswitch"].with_settings(rule=rule).policy.rule == rule
    assert METHODS["skd"].with_settings(top_k=3).policy.top_k == 3
    assert METHODS["adaswitch"].with_settings(loss="reverse_kl").loss == "reverse_kl"
    for name in ("adaswitch", "sft"):
        with pytest.raises(ValueError, match="has no setting top_k: it has loss"):
            METHODS[name].with_settings(top_k=3)
    with pytest.raises(ValueError, match="unknown method 'ada'"):
        method("ada")


def test_row_seeds_differ():
    seeds = {row_seed(a, b, c) for a in range(10) for b in range(10) for c in range(100)}
    assert len(seeds) == 10_000


def test_rows_of_a_rollout_and_their_join():
    ids, mask = torch.tensor([[0, 5, 6], [4, 5, 6]]), torch.tensor([[0, 1, 1], [1, 1, 1]])
    rollout = Rollout.from_data(ids, mask, torch.tensor([[7, 8, 0], [7, 8, 9]]), torch.tensor([[1, 1, 0], [1, 1, 1]]))
    short = rollout.rows([0])
    assert short.prompt_ids.tolist() == [[5, 6]] and short.completion_ids.tolist() == [[7, 8]]
    joined = Rollout.join([rollout.rows([1]), short])
    assert joined.prompt_ids.tolist() == [[4, 5, 6], [0, 5, 6]] and joined.prompt_mask.tolist() == [[1, 1, 1], [0, 1, 1]]
    assert joined.completion_ids.tolist() == [[7, 8, 9], [7, 8, 0]]
    assert joined.source.tolist() == [[2, 2, 2], [2, 2, -1]]
    again = joined.rows([1, 0])
    assert again.completion_ids.tolist() == rollout.completion_ids.tolist()


def test_all_methods_of_a_seed_see_the_same_rows_in_the_same_order(tmp_path):
    orders = []
    for name in ("sft", "kd", "adaswitch", "random"):
        made = trainer(tmp_path, name, max_steps=7)  # three steps an epoch
        made.train()
        orders.append([rows.prompt_ids.tolist() for rows in made.written])
    assert all(order == orders[0] for order in orders[1:])
    assert orders[0][0] != orders[0][3]
