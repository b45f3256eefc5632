"""What cannot be trained is refused before the first step, by every method alike; what can be trained is served."""

import copy
import math

import pytest
import torch
from chats import chat_tokenizer
from datasets import Dataset, IterableDataset
from transformers import AutoConfig, AutoModelForCausalLM, TrainingArguments

from adaswitch_lib import METHODS, RolloutConfig, RolloutTrainer, encode_rows, load_pair
from adaswitch_lib.rollout import NonFiniteLogits, Source

PAIR = load_pair("tiny")
ROWS = encode_rows(Dataset.from_list([{"prompt": "Ann has two apples .", "completion": "she gives one ."}] * 4), PAIR.tokenizer)
NEEDS_TEACHER = [name for name in METHODS if name != "sft"]


def arguments(folder, **changes):
    settings = {"max_steps": 1, "per_device_train_batch_size": 2, "max_new_tokens": 8, "use_cpu": True, "report_to": "none"}
    return RolloutConfig(str(folder), **(settings | {"disable_tqdm": True, "save_strategy": "no"} | changes))


def trainer(folder, name="kd", scorer=None, settings=None, **changes):
    pair = load_pair("tiny")
    pieces = {"model": pair.student, "teacher": pair.teacher, "method": METHODS[name], "args": arguments(folder, **settings or {})}
    return RolloutTrainer(**(pieces | {"train_dataset": ROWS, "tokenizer": pair.tokenizer} | changes), scorer=scorer)


def without(name):
    tokenizer = copy.deepcopy(PAIR.tokenizer)
    setattr(tokenizer, name, None)
    return tokenizer


def with_tokens(**tokens):
    tokenizer = copy.deepcopy(PAIR.tokenizer)
    tokenizer.add_special_tokens(tokens)
    return tokenizer


NO_EOS = {"model": copy.deepcopy(PAIR.student), "teacher": copy.deepcopy(PAIR.teacher)}
for model in NO_EOS.values():
    model.generation_config.eos_token_id = None


def with_weights_of(model):
    other = copy.deepcopy(model)
    other.load_state_dict(model.state_dict(), assign=True)  # other parameters over the same memory
    return other


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "adaswitch"}, "must be a Method"),
        ({"teacher": None}, "KD needs a teacher"),
        ({"model": "org/name"}, "the student must be a model, got 'org/name'"),
        ({"teacher": "org/name"}, "the teacher must be a model, got 'org/name'"),
        ({"tokenizer": "org/name"}, "tokenizer must be a tokenizer"),
        ({"model": PAIR.student, "teacher": PAIR.student}, "share weights"),
        ({"model": PAIR.student, "teacher": with_weights_of(PAIR.student)}, "share weights"),
        ({"tokenizer": without("pad_token")}, "no pad token"),
        ({"tokenizer": without("eos_token")} | NO_EOS, "by which a text ends"),
        ({"tokenizer": with_tokens(pad_token="<new>")}, "pad id 29 lies outside"),
        ({"tokenizer": with_tokens(additional_special_tokens=["<new>"])}, "unequal vocabularies"),
        ({"train_dataset": ROWS.select([])}, "no rows"),
        ({"train_dataset": Dataset.from_dict({"prompt": ["a"]})}, "row 0 of 1: .*make the data set by encode_rows"),
    ],
)
def test_pieces_that_do_not_go_together_are_refused(changes, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        trainer(tmp_path, **changes)
    assert all(weight.requires_grad for weight in PAIR.student.parameters())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"eval_strategy": "steps", "eval_steps": 1}, "evaluation needs a scorer"),
        ({"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}, "'use_reentrant': False"),
    ],
)
def test_arguments_that_cannot_be_kept_are_refused(settings, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        trainer(tmp_path, settings=settings)
    with pytest.raises(ValueError, match="must be a RolloutConfig"):
        trainer(tmp_path, args=TrainingArguments(str(tmp_path), use_cpu=True))


FAULTS = {
    "an empty prompt": {"prompt_ids": []},
    "ids that are not among the tokenizer's": {"prompt_ids": [5, 10_000]},
    "longer than max_new_tokens = 8": {"completion_ids": [5] * 9},
    "tokens that the models were made for": {"prompt_ids": [5] * 2041},
    "no completion": {"completion_ids": []},
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", METHODS)
def test_rows_that_do_not_fit_are_refused_by_every_method(name, fault, tmp_path):
    rows = Dataset.from_list([ROWS[0], ROWS[0] | FAULTS[fault], ROWS[0], ROWS[0] | FAULTS[fault]])
    if fault == "no completion" and METHODS[name].policy is not None and METHODS[name].data_share == 0:
        trainer(tmp_path, name, train_dataset=rows).train()
        return
    with pytest.raises(ValueError, match=rf"2 rows \(1, 3\) of 4: .*{fault}"):
        trainer(tmp_path, name, train_dataset=rows)


def test_a_row_of_a_stream_is_refused_as_it_comes(tmp_path):
    texts = [{"prompt": "Ann has", "completion": "one"}] * 5 + [{"prompt": "Ann has", "completion": "one " * 8}]
    rows = encode_rows(Dataset.from_list(texts).to_iterable_dataset(), PAIR.tokenizer)
    made = trainer(tmp_path, train_dataset=rows, settings={"max_steps": 3})
    with pytest.raises(ValueError, match="row 5: .*longer than max_new_tokens"):
        made.train()
    assert made.state.global_step > 0


def test_a_stream_needs_the_rows_of_one_step(tmp_path):
    rows = IterableDataset.from_generator(lambda: iter([]))
    with pytest.raises(ValueError, match="fewer rows than one optimiser batch"):
        trainer(tmp_path, train_dataset=rows).train()


@pytest.mark.parametrize("name", NEEDS_TEACHER)
def test_a_teacher_that_gives_nan_is_named_by_every_method(name, tmp_path):
    made = trainer(tmp_path, name)
    made.teacher.lm_head.weight[3] = torch.nan
    with pytest.raises(NonFiniteLogits, match="the teacher gives") as caught:
        made.train()
    assert caught.value.of is Source.TEACHER
    assert all(weight.isfinite().all() for weight in made.model.parameters())


@pytest.mark.parametrize("name", ["sft", "kd", "onpolicy"])
def test_a_student_that_gives_nan_is_named(name, tmp_path):
    made = trainer(tmp_path, name)
    with torch.no_grad():
        made.model.lm_head.weight[3] = torch.nan
    with pytest.raises(NonFiniteLogits, match="the student gives"):
        made.train()


@pytest.mark.parametrize("name", ["kd", "adaswitch"])
def test_a_teacher_that_is_spread_over_devices_is_left_where_it_is(name, tmp_path):
    PAIR.teacher.save_pretrained(tmp_path / "teacher")
    places = dict.fromkeys(("model.embed_tokens", "model.layers", "model.norm", "model.rotary_emb"), "cpu") | {"lm_head": "disk"}
    spread = AutoModelForCausalLM.from_pretrained(tmp_path / "teacher", device_map=places, offload_folder=tmp_path / "disk")
    losses = []
    for teacher in (spread, copy.deepcopy(PAIR.teacher)):
        made = trainer(tmp_path, name, teacher=teacher)
        made.train()
        losses.append(made.state.log_history[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert spread.lm_head.weight.device.type == "meta" and not spread.lm_head.weight.requires_grad


@pytest.mark.parametrize("settings", [{}, {"gradient_checkpointing": True}])
def test_a_scorer_gets_the_student_in_eval_mode_without_gradients(settings, tmp_path):
    seen = []

    def scorer(model):
        ids = torch.tensor([[5, 6, 7]])
        texts = [model.generate(input_ids=ids, max_new_tokens=8, do_sample=False, pad_token_id=0).tolist() for _ in range(2)]
        seen.append((model.training, torch.is_grad_enabled(), texts[0] == texts[1]))
        return {"length": len(texts[0][0])}

    config = copy.deepcopy(PAIR.student.config)
    config.attention_dropout = 0.5
    student = AutoModelForCausalLM.from_config(config)
    settings = settings | {"eval_strategy": "steps", "eval_steps": 1, "max_steps": 2}
    made = trainer(tmp_path, scorer=scorer, model=student, settings=settings)
    modes, step = [], made.training_step
    made.training_step = lambda *row: (step(*row), modes.append(student.training))[0]
    made.train()
    student.train()
    made.evaluate()
    assert seen == [(False, False, True)] * 3 and modes == [True, True] and student.training


def test_checkpointing_changes_no_step(tmp_path):
    losses = []
    for settings in ({}, {"gradient_checkpointing": True}):
        made = trainer(tmp_path, settings=settings | {"max_steps": 2})
        made.train()
        losses.append([entry["loss"] for entry in made.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("sharding", ["fsdp", "zero3"])
def test_weights_that_are_divided_among_processes_are_refused(sharding, tmp_path, monkeypatch):
    create = RolloutTrainer.create_accelerator_and_postprocess

    def sharded(self):
        create(self)
        if sharding == "fsdp":
            self.is_fsdp_enabled = True
        else:
            plugin = type("Plugin", (), {"zero_stage": 3})()
            monkeypatch.setattr(type(self.accelerator.state), "deepspeed_plugin", plugin)

    monkeypatch.setattr(RolloutTrainer, "create_accelerator_and_postprocess", sharded)
    with pytest.raises(ValueError, match="FSDP and ZeRO-3"):
        trainer(tmp_path)


@pytest.fixture(scope="module")
def chat_pair():
    """Two models whose embeddings are padded by different numbers of ids, and a tokenizer whose turns do not end by its EOS."""
    tokenizer = chat_tokenizer()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32}
    models = []
    for seed, padding in ((0, 5), (1, 21)):
        torch.manual_seed(seed)
        ids = {"vocab_size": len(tokenizer) + padding, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
        models.append(AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2", initializer_range=0.5, **sizes, **ids)))
    return *models, tokenizer


@pytest.mark.parametrize("name", METHODS)
def test_chats_train_a_pair_with_unequal_embeddings(name, chat_pair, tmp_path):
    teacher, student, tokenizer = chat_pair[0], copy.deepcopy(chat_pair[1]), chat_pair[2]
    system, answer = {"role": "system", "content": "Be short."}, {"role": "assistant", "content": "Yes."}
    asked = [{"role": "user", "content": text} for text in ("Late?", "Sure?")]
    rows = [{"messages": [system, asked[0], answer]}, {"messages": [asked[0], answer, asked[1], answer]}] * 8
    made = trainer(
        tmp_path,
        name,
        model=student,
        teacher=teacher,
        tokenizer=tokenizer,
        train_dataset=encode_rows(rows, tokenizer),
        settings={"max_new_tokens": 40, "per_device_train_batch_size": 16},
    )
    written, write = [], made.write
    made.write = lambda *row: written.append(write(*row)) or written[-1]
    made.train()
    assert math.isfinite(made.state.log_history[0]["loss"])
    ids, mask = written[0].completion_ids, written[0].completion_mask.bool()
    assert ids[mask].max() < len(tokenizer)
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}
    texts = [row[real].tolist() for row, real in zip(ids, mask, strict=True)]
    assert not any(set(text[:-1]) & ends for text in texts)  # what ends a text is its last token
    assert student.get_input_embeddings().weight.shape[0] == len(tokenizer) + 21
