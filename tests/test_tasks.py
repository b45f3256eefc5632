import gzip
import json
from dataclasses import replace

import pytest
from datasets import Dataset

from adaswitch_lib.data import encode_prompts
from adaswitch_lib.experiments.evaluation import answers
from adaswitch_lib.experiments.scoring import final_number, rouge_l
from adaswitch_lib.experiments.tasks import TASKS, load_split, prompt_of, sample_prompts


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
    assert [prompt_of(row) for row in load_split("gsm8k", "train")] == ["How many?", "Why?"]
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


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 48/2 = 24.\n#### 72", 72.0),
        ("#### 1,234", 1234.0),
        ("he chose 3,4", 4.0),
        ("12,345,678 in all", 12345678.0),
        ("the answer is 1,234.50 dollars", 1234.5),
        ("It is -3.", -3.0),
        ("2 and then 5.", 5.0),
        ("so 10-5", 5.0),
        ("a share of 1/4", 0.25),
        ("#### 1/4", 0.25),
        ("none at all", None),
        ("", None),
    ],
)
def test_the_final_number_of_real_text(text, number):
    assert final_number(text) == number


def test_rouge_l_takes_the_nearest_reference():
    assert rouge_l("the cat sat", ["a dog ran", "the cat sat down"]) == pytest.approx(2 * 1 * 0.75 / 1.75)
    assert rouge_l("", ["the cat"]) == 0.0


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


def test_gsm_plus_is_an_examination_without_unanswerable_questions(data):
    same = {"seed_question": "", "seed_solution": "", "seed_answer": "", "solution": "s"}
    rows = [
        {"question": "a?", "answer": "3", "perturbation_type": "digit expansion"},
        {"question": "b?", "answer": "None", "perturbation_type": "critical thinking"},
    ]
    data("gsm_plus/testmini.jsonl", [row | same for row in rows])
    (row,) = TASKS["gsm_plus"].load("test", 100, 0)
    assert TASKS["gsm_plus"].score("3", row) == {"accuracy": 1.0, "accuracy_digit_expansion": 1.0}
    with pytest.raises(ValueError, match="has the split test alone"):
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


def test_dialogues_that_are_examined_are_not_learned(data, tmp_path):
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


def test_answers_stand_at_their_rows_whatever_batch_they_were_written_in(pair):
    prompts = ["Ann has two apples .", "Bob", "she gives three books and", "he has", "Bob gets one"]
    rows = Dataset.from_dict({"prompt": prompts, "completion": [""] * 5})
    task = replace(TASKS["gsm8k"], max_new_tokens=6)
    alone = [answers(pair.student, pair.tokenizer, task, rows.select([i]), seed=i, temperature=1.0)[0] for i in range(5)]
    assert len(set(alone)) > 1
    for size in (1, 20, 2**16):
        assert answers(pair.student, pair.tokenizer, task, rows, temperature=1.0, values_at_once=32 * size) == alone
