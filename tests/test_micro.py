"""The micro world's tasks, worked by hand and as properties."""

import hashlib
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaswitch_lib.experiments.tasks import TASKS, micro_dialog, micro_gsm, micro_tokenizer

TOKENIZER = micro_tokenizer()
MICRO = [name for name, task in TASKS.items() if task.is_micro]


def test_a_problem_by_hand():
    problem = micro_gsm.Problem("ann", "apples", 12, (("+", 7), ("-", 4)))
    assert problem.counts == (12, 19, 15)
    row = micro_gsm.row(problem, random.Random(0))
    assert row["answer"] == "15"
    assert row["prompt"].startswith("ann has 1 2 apples . ann ")
    assert row["prompt"].endswith("how many apples does ann have now ? answer :")
    first, second, ending, rest = row["completion"].split(" .")
    assert "1 2 + 7" in first and first.endswith("1 9")
    assert "1 9 - 4" in second and second.endswith("1 5")
    assert "1 5" in ending and rest == ""


def test_a_reversed_problem_is_undone_from_its_end():
    row = micro_gsm.row(micro_gsm.Problem("ann", "apples", 12, (("+", 7), ("-", 4))), random.Random(0), "reversed")
    assert "ann has some apples" in row["prompt"] and "now ann has 1 5 apples" in row["prompt"]
    assert row["answer"] == "12"
    first, second, *_ = row["completion"].split(" .")
    assert "1 5 + 4" in first and "1 9 - 7" in second


@pytest.mark.parametrize(
    ("text", "number"),
    [("so ann has 1 5 apples .", "15"), ("1 2 + 7 = 1 9 . the answer is 3", "3"), ("no number", None), ("", None)],
)
def test_the_last_number(text, number):
    assert micro_gsm.last_number(text) == number


def test_scores_of_a_problem():
    row = {"answer": "15", "perturbation": "steps"}
    assert micro_gsm.score("so ann has 1 5 apples .", row) == {"accuracy": 1.0, "accuracy_steps": 1.0}
    assert micro_gsm.score("so ann has 5 apples .", row | {"perturbation": ""}) == {"accuracy": 0.0}


def test_facts_by_hand():
    plan = micro_dialog.Plan(("ann", "bob"), "ann and bob", "play chess", "park", "friday evening")
    row = micro_dialog.row(plan, random.Random(0))
    assert micro_dialog.score("ann and bob will play chess at the park on friday evening .", row) == {
        "all_facts": 1.0,
        "facts": 1.0,
        "rouge_l": 1.0,
    }
    wrong_day = micro_dialog.score("ann and bob will play chess at the park on monday evening .", row)
    assert (wrong_day["all_facts"], wrong_day["facts"]) == (0.0, 0.75)
    assert wrong_day["rouge_l"] == pytest.approx(11 / 12)  # 11 of 12 words are in the longest common subsequence
    both = micro_dialog.score("ann will play chess at the park at the school on friday evening .", row)
    assert both["facts"] == 0.5  # the wrong people, and two places
    assert micro_dialog.score("", row)["facts"] == 0.0


@pytest.mark.parametrize("name", MICRO)
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_rows_fit_the_vocabulary_the_lengths_and_the_scorer(name, split):
    task = TASKS[name]
    rows = task.load(split, 400, 0)
    prompts, completions = (TOKENIZER(list(rows[column]))["input_ids"] for column in ("prompt", "completion"))
    assert not any(TOKENIZER.unk_token_id in ids for ids in prompts + completions)
    assert max(map(len, prompts)) <= task.max_prompt_tokens
    assert max(map(len, completions)) < task.max_new_tokens  # EOS has its place
    assert task.scores(rows["completion"], rows)[task.metric].eq(1).all()  # the data answers its own questions
    assert task.load(split, 400, 0).to_list() == rows.to_list()
    assert task.load(split, 400, 1).to_list() != rows.to_list()


@pytest.mark.parametrize("name", MICRO)
def test_splits_share_no_prompt(name):
    prompts = {
        split: set(TASKS[name].load(split, 1000, seed)["prompt"]) for seed, split in enumerate(("train", "validation", "test"))
    }
    assert not prompts["train"] & prompts["test"]
    assert not prompts["train"] & prompts["validation"]
    assert not prompts["validation"] & prompts["test"]


def test_the_teacher_learns_from_no_problem_of_the_test_split():
    taught = set(TASKS["micro_gsm"].teacher_rows("train", 5000, 0)["prompt"])
    assert not taught & set(TASKS["micro_gsm_plus"].load("test", 1000, 0)["prompt"])
    assert not taught & set(TASKS["micro_gsm"].load("test", 1000, 0)["prompt"])


def test_perturbations_are_what_they_say():
    rows = TASKS["micro_gsm_plus"].load("test", 100, 0)
    by_kind = {kind: [row for row in rows if row["perturbation"] == kind] for kind in micro_gsm.PERTURBATIONS}
    assert all(len(found) == 20 for found in by_kind.values())
    assert all(row["completion"].count(" .") == 6 for row in by_kind["steps"])
    assert all(len(row["prompt"].split(" has ")[1].split(" ")[:3]) == 3 for row in by_kind["numbers"])
    assert all(row["prompt"].split()[0] in micro_gsm.OTHER_NAMES for row in by_kind["words"])
    assert all(row["prompt"].count(" has ") == 2 for row in by_kind["distraction"])
    assert all(" some " in row["prompt"] for row in by_kind["reversed"])


@given(st.integers(0, 10**9), st.sampled_from((None, *micro_gsm.PERTURBATIONS)))
def test_counts_stay_positive_and_numbers_read_as_digits(seed, perturbation):
    problem = next(micro_gsm.problems("train", seed, perturbation))
    assert min(problem.counts) >= 1 and max(problem.counts) <= (299 if perturbation == "numbers" else 99)
    row = micro_gsm.row(problem, random.Random(seed), perturbation)
    assert micro_gsm.last_number(row["completion"]) == row["answer"]


def test_one_completion_a_row():
    rows = TASKS["micro_gsm"].load("test", 3, 0)
    with pytest.raises(ValueError, match="2 completions for 3 rows"):
        TASKS["micro_gsm"].scores(["a", "b"], rows)


def digest(rows):
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "digests"),
    [
        ("micro_gsm", ("1ea9a8b3f843c655", "a89604d8846109bf", "1dba492f185f2cf6")),
        ("micro_gsm_plus", ("b89435b148ada391", "566275b1db3aa91b", "0aa79f2f3e30e316")),
        ("micro_dialog", ("afe657dfc97e4f92", "ba6caaa819df21c0", "c51c4b369c4e3a93")),
    ],
)
def test_rows_are_those_of_the_kept_results(name, digests):
    splits = ("train", "validation", "test")
    assert tuple(digest(TASKS[name].load(split, 300, 0).to_list()) for split in splits) == digests


def test_teachers_learned_from_the_rows_and_the_vocabulary_that_are_here():
    assert digest(TASKS["micro_gsm"].teacher_rows("train", 2000, 0).to_list()) == "bb38ad9dbc5f9bf5"
    assert digest(dict(sorted(TOKENIZER.get_vocab().items()))) == "6de767a369b08a17"
