import gzip
import json
import random
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, GenerationConfig

from adaswitch_lib.data import encode_prompts
from adaswitch_lib.experiments import evaluation
from adaswitch_lib.experiments.evaluation import answers, evaluate
from adaswitch_lib.experiments.paths import data_dir, home
from adaswitch_lib.experiments.tasks import TASKS, Task, limited, load_split, sample_prompts


def test_samples_ship_with_the_package():
    assert len(sample_prompts("gsm8k")) == len(sample_prompts("dialogue")) == 8
    assert all(prompt.startswith("Summarize") for prompt in sample_prompts("dialogue"))
    with pytest.raises(ValueError, match="no samples of 'news'"):
        sample_prompts("news")


def test_full_sets_come_from_the_folder_that_adaswitch_data_names(tmp_path, monkeypatch):
    monkeypatch.setenv("ADASWITCH_DATA", str(tmp_path))
    rows = [{"question": "How many?", "answer": "#### 3"}, {"question": "Why?", "answer": "#### 4"}]
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert load_split("gsm8k", "train")["question"] == ["How many?", "Why?"]
    with pytest.raises(FileNotFoundError, match=r"unset it to use the hub"):
        load_split("gsm8k", "test")
    with pytest.raises(ValueError, match="no split 'validation': use one of train, test"):
        load_split("gsm8k", "validation")
    with pytest.raises(ValueError, match="unknown task"):
        load_split("mmlu", "test")


def test_prompts_are_padded_on_the_left(pair):
    ids, mask = encode_prompts(pair.tokenizer, ["Ann has two apples", "Bob"])
    assert mask.tolist() == [[1, 1, 1, 1], [0, 0, 0, 1]]
    assert pair.tokenizer.decode(ids[1][mask[1].bool()]) == "Bob"


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("ADASWITCH_DATA", str(tmp_path))

    def rows(file, lines):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("\n".join(map(json.dumps, lines)))

    return rows


def test_gsm8k_has_a_validation_split_of_ours(data):
    solved = [{"question": f"{i}?", "answer": f"It is <<{i}+0={i}>>{i}.\n#### {i:,}"} for i in range(1000, 1050)]
    data("gsm8k/train.jsonl", solved)
    data("gsm8k/test.jsonl", [{"question": "test?", "answer": "#### 7"}])
    task = TASKS["gsm8k"]
    train, validation, test = (task.load(split, 100, 0) for split in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (45, 5, 1)
    assert not set(train["prompt"]) & set(validation["prompt"])
    row = next(row for row in [*train, *validation] if row["prompt"] == "1003?")
    assert row["completion"] == "It is 1003.\n#### 1,003" and row["answer"] == "1,003"
    assert task.score("so 1003 it is", row) == {"accuracy": 1.0}
    assert task.score("so 103 it is", row) == task.score("", row) == {"accuracy": 0.0}


def test_gsm_plus_is_an_evaluation_without_unanswerable_questions(data):
    same = {"seed_question": "", "seed_solution": "", "seed_answer": "", "solution": "s"}
    rows = [
        {"question": "a?", "answer": "3", "perturbation_type": "digit expansion"},
        {"question": "b?", "answer": "None", "perturbation_type": "critical thinking"},
    ]
    data("gsm_plus/testmini.jsonl", [row | same for row in rows])
    (row,) = TASKS["gsm_plus"].load("test", 100, 0)
    assert TASKS["gsm_plus"].score("3", row) == {"accuracy": 1.0, "accuracy_digit_expansion": 1.0}
    with pytest.raises(ValueError, match="no split 'train': use one of test"):
        TASKS["gsm_plus"].load("train", 100, 0)


def test_dialogsum_keeps_three_references_from_folder_and_hub_alike(data):
    three = {f"summary{i}": f"summary {i}" for i in (1, 2, 3)}
    data("dialogsum/test.jsonl", [{"fname": "test_0", "dialogue": "#Person1#: Hi."} | three])
    (row,) = TASKS["dialogsum"].load("test", 100, 0)
    assert row["references"] == ["summary 1", "summary 2", "summary 3"]
    data("dialogsum/validation.jsonl", [{"dialogue": "#Person1#: Bye.", "summary": text} for text in three.values()])
    (same,) = TASKS["dialogsum"].load("validation", 100, 0)
    assert same["references"] == row["references"] and same["prompt"].endswith("#Person1#: Bye.")
    assert TASKS["dialogsum"].score("summary 2", row) == {"rouge_l": 1.0}


def test_dialogues_of_the_evaluation_are_not_learned(data, tmp_path):
    def talk(text):
        return {"dialogue": text, "summary": "s"}

    data("dialogsum/test.jsonl", [{"dialogue": "It's late.", "summary1": "a", "summary2": "b", "summary3": "c"}])
    data("dialogsum/validation.jsonl", [talk("its  LATE"), talk("We've met.")])
    data("dialogsum/train.jsonl", [talk("We'Ve met"), talk("it's late"), talk("It is new.")])
    with gzip.open(tmp_path / "dialogsum/train.jsonl.gz", "wb") as file:
        file.write((tmp_path / "dialogsum/train.jsonl").read_bytes())
    left = {
        split: [row["prompt"].split("\n")[-1] for row in TASKS["dialogsum"].load(split, 9, 0)] for split in ("train", "validation")
    }
    assert left == {"train": ["It is new."], "validation": ["We've met."]}


@pytest.mark.parametrize("name", TASKS)
def test_a_split_that_does_not_exist_is_refused_at_once(name):
    with pytest.raises(ValueError, match="no split 'valid'"):
        TASKS[name].load("valid", 3, 0)  # a generated task would draw for ever


def test_tasks_know_where_they_belong():
    assert all(name == task.name for name, task in TASKS.items())
    assert {name: task.trained_as for name, task in TASKS.items() if task.trained_as != name} == {
        "micro_gsm_plus": "micro_gsm",
        "gsm_plus": "gsm8k",
    }
    assert [name for name, task in TASKS.items() if task.is_micro] == ["micro_gsm", "micro_gsm_plus", "micro_dialog"]
    styles = [task.style for task in TASKS.values()]
    assert len(set(styles)) == len(styles)


def test_a_task_of_ones_own_is_one_definition(monkeypatch, pair):
    def load(split, size, seed):
        return Dataset.from_list([{"prompt": f"Ann has {n}", "completion": n} for n in ("two", "three", "books")][:size])

    task = Task(
        "echo", "echo", ("#000000", "o"), "same", "same word", load, lambda text, row: {"same": text == row["completion"]}, 8, 4
    )
    monkeypatch.setitem(TASKS, "echo", task)
    assert task.trained_as == "echo" and list(TASKS)[-1] == "echo"
    scores = evaluate(pair.student, pair.tokenizer, TASKS["echo"], task.load("test", 3, 0))
    assert list(scores) == ["same", "answer"] and len(scores) == 3
    assert task.scores(["two", "two", "two"], task.load("test", 3, 0)).same.tolist() == [True, False, False]


@pytest.mark.parametrize("spoil", ["cut", "pointer", "other", "null", "number", "latin", "empty"])
def test_a_broken_file_is_named(data, tmp_path, spoil):
    row = {"question": "How many?", "answer": "#### 3"}
    whole = "".join(json.dumps(row) + "\n" for _ in range(3)).encode()
    broken = {
        "cut": whole[:-20],
        "pointer": b"version https://git-lfs.github.com/spec/v1\n",
        "other": b'{"text": "hello"}\n',
        "null": whole + b'{"question": "How many?", "answer": null}\n',
        "number": whole + b"3\n",
        "latin": whole + "caf\u00e9\n".encode("latin-1"),
        "empty": b"",
    }[spoil]
    data("gsm8k/train.jsonl", [row])
    (tmp_path / "gsm8k/train.jsonl").write_bytes(broken)
    with pytest.raises(ValueError, match=r"gsm8k.train\.jsonl is broken at line \d.*replace it"):
        load_split("gsm8k", "train")


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_archive_is_named(data, tmp_path, share):
    data("dialogsum/train.jsonl", [{"dialogue": f"{i} {random.Random(i).random()}", "summary": "s"} for i in range(2000)])
    packed = gzip.compress((tmp_path / "dialogsum/train.jsonl").read_bytes())
    file = tmp_path / "dialogsum/train.jsonl.gz"
    file.write_bytes(packed)
    assert len(load_split("dialogsum", "train")) == 2000
    file.write_bytes(packed[: int(share * len(packed))])
    with pytest.raises(ValueError, match=r"train\.jsonl\.gz is broken"):
        load_split("dialogsum", "train")
    file.write_bytes(packed[:50] + bytes(50) + packed[100:])
    with pytest.raises(ValueError, match=r"train\.jsonl\.gz is broken"):
        load_split("dialogsum", "train")


def test_folders_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for variable, folder in (("ADASWITCH_HOME", home), ("ADASWITCH_DATA", data_dir)):
        monkeypatch.delenv(variable, raising=False)
        unset = folder()
        for empty in ("", " "):
            monkeypatch.setenv(variable, empty)
            assert folder() == unset
        for value, path in {"~/x": tmp_path / "x", "~": tmp_path, "a/b": tmp_path / "a/b", "/x y": Path("/x y")}.items():
            monkeypatch.setenv(variable, value)
            assert folder() == path
        monkeypatch.setenv(variable, "~nobody-of-this-name/x")
        with pytest.raises(ValueError, match=variable):
            folder()


def test_an_empty_adaswitch_data_means_the_hub(monkeypatch):
    monkeypatch.setenv("ADASWITCH_DATA", "")
    monkeypatch.setattr("datasets.load_dataset", lambda *names, split: (*names, split))
    assert load_split("gsm8k", "test") == ("openai/gsm8k", "main", "test")

    def unreachable(*names, split):
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(ConnectionError, match="no network.*set ADASWITCH_DATA"):
        load_split("gsm8k", "test")


def test_lengths_count_what_training_sees(pair):
    def load(split, size, seed):
        return Dataset.from_list([{"prompt": "Ann " * n, "completion": "books " * n, "references": ["r"]} for n in (1, 2, 3, 4)])

    task = replace(TASKS["dialogsum"], load=load)
    short = limited(task, pair.tokenizer, max_prompt_tokens=3, max_new_tokens=3)  # two words and EOS
    assert short.load("train", 9, 0)["completion"] == ["books ", "books books "]
    assert short.load("train", 9, 0).column_names == ["prompt", "completion", "references"]
    assert len(short.load("test", 9, 0)) == 4
    assert {field.name for field in fields(Task) if getattr(short, field.name) != getattr(task, field.name)} == {
        "load",
        "max_prompt_tokens",
        "max_new_tokens",
    }


PROMPTS = ["Ann has two apples .", "Bob", "she gives three books and", "he has", "Bob gets one"]


@pytest.fixture
def rows():
    return Dataset.from_dict({"prompt": PROMPTS, "completion": [""] * 5, "references": [[""]] * 5})


def test_answers_stand_at_their_rows_whatever_batch_they_were_written_in(pair, rows, monkeypatch):
    task = replace(TASKS["dialogsum"], max_new_tokens=6)
    alone = [answers(pair.student, pair.tokenizer, task, rows.select([i]))[0] for i in range(5)]
    assert len(set(alone)) > 1
    for size in (1, 20, 2**16):
        monkeypatch.setattr(evaluation, "VALUES_AT_ONCE", 32 * size)
        assert answers(pair.student, pair.tokenizer, task, rows) == alone
        assert evaluate(pair.student, pair.tokenizer, task, rows).answer.tolist() == alone


def test_evaluation_is_in_eval_mode_without_gradients_and_leaves_the_mode(pair, rows):
    task = replace(TASKS["dialogsum"], max_new_tokens=6)
    config = deepcopy(pair.student.config)
    config.attention_dropout = 0.9
    model = type(pair.student)(config).train()
    model.load_state_dict(pair.student.state_dict())
    gradients = []
    model.lm_head.register_forward_hook(lambda module, args, logits: gradients.append(logits.requires_grad))
    assert answers(model, pair.tokenizer, task, rows) == answers(pair.student, pair.tokenizer, task, rows)
    assert model.training and not any(gradients) and gradients


def test_answers_have_no_special_tokens(pair, rows):
    task = replace(TASKS["dialogsum"], max_new_tokens=6)
    model = type(pair.student)(pair.student.config)
    model.generation_config = GenerationConfig(eos_token_id=pair.tokenizer.eos_token_id)
    with torch.no_grad():
        model.lm_head.weight.zero_()  # every token is as likely: greedy writes the first, which is special
    assert pair.tokenizer.decode([0]).startswith("<")
    assert answers(model, pair.tokenizer, task, rows) == [""] * 5


def test_a_model_whose_config_holds_several_is_evaluated(pair, rows):
    text = {"vocab_size": len(pair.tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 8}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}
    config = Gemma3Config(text_config=text, vision_config=vision | {"patch_size": 14}, mm_tokens_per_image=4)
    config.boi_token_index, config.eoi_token_index, config.image_token_index = 1, 2, 3
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config).eval()
    assert not hasattr(model.config, "hidden_size")
    assert len(answers(model, pair.tokenizer, replace(TASKS["dialogsum"], max_new_tokens=3), rows)) == 5
