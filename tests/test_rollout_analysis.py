"""What is measured of texts while a student learns."""

import math

import pytest
import torch

from adaswitch_lib import AdaSwitch, OnPolicy, SwitchRule
from adaswitch_lib.experiments.config import ModelSize
from adaswitch_lib.experiments.pretraining import new_model
from adaswitch_lib.experiments.rollout_analysis import against_chance, by_chance, caught, look_at_texts, trace
from adaswitch_lib.experiments.tasks import TASKS, micro_dialog, micro_gsm
from adaswitch_lib.experiments.teachers import load_teacher

RIGHT = "first 1 2 + 7 = 1 9 . then 1 9 - 4 is 1 5 . so ann has 1 5 apples ."


@pytest.mark.parametrize(
    ("text", "index"),
    [
        (RIGHT, None),
        ("now 1 2 + 7 makes 1 9 . so 1 9 - 4 leaves 1 5 . the answer is 1 5 .", None),  # other words
        (RIGHT.replace("= 1 9", "= 1 8"), 7),  # the sum
        (RIGHT.replace("- 4", "+ 4"), 12),  # the sign
        (RIGHT.replace("has 1 5", "has 5"), 21),  # the final number
        ("first 1 2 + 7 = 1 9 .", 9),  # the end comes too early
        (RIGHT + " 3", 25),  # something after the end
        ("", 0),
    ],
)
def test_the_first_mistake_of_a_solution_by_hand(text, index):
    assert micro_gsm.first_mistake(text, {"completion": RIGHT}) == index


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("on friday morning ann and bob will play chess at the school .", None),
        ("the plan is that ann and bob will play chess on friday morning at the school .", None),
        ("on monday morning ann and bob will play chess at the school .", 1),
        ("on friday morning ann and bob will see chess at the school .", 7),
        ("on friday morning ann will play chess at the school .", 11),
    ],
)
def test_the_first_wrong_fact_of_a_summary_by_hand(text, index):
    row = {"who": "ann and bob", "what": "play chess", "where": "school", "when": "friday morning", "references": [text]}
    assert micro_dialog.first_mistake(text, row) == index


@pytest.mark.parametrize("task", ["micro_gsm", "micro_dialog"])
def test_the_data_have_no_mistakes_and_what_scores_is_right(task):
    rows = TASKS[task].load("validation", 200, 0)
    assert all(TASKS[task].first_mistake(row["completion"], row) is None for row in rows)
    spoiled = [row["completion"].replace("1", "2").replace("friday", "monday") for row in rows]
    for text, row in zip(spoiled, rows, strict=True):
        if TASKS[task].first_mistake(text, row) is None:
            assert TASKS[task].score(text, row)[TASKS[task].metric] == 1


def test_switches_against_mistakes_by_hand():
    found = caught(torch.tensor([2, 5, 7, 3, -1, -1]), torch.tensor([2, 8, 4, -1, 6, -1]))
    assert found == pytest.approx(
        {"mistaken": 4 / 6, "caught": 2 / 4, "switch_before": 2 / 4, "switch_at": 1 / 4, "switch_after": 1 / 4}
    )
    nothing = caught(torch.tensor([-1, -1]), torch.tensor([-1, -1]))
    assert nothing["mistaken"] == 0 and all(math.isnan(value) for name, value in nothing.items() if name != "mistaken")


def test_permuted_switch_positions_by_hand():
    # passed on by one, rows have the switches -1, 2 and, behind its end, 5; by two: 5, -1 and 2
    found = by_chance(torch.tensor([2, 5, -1]), torch.tensor([2, 8, 6]), torch.tensor([10, 9, 4]))
    assert found == pytest.approx({"mistaken": 1, "caught": 1 / 3, "switch_before": 3 / 4, "switch_at": 0, "switch_after": 1 / 4})


def test_a_look_at_texts_of_a_student_that_is_its_teacher_and_of_one_that_knows_nothing():
    teacher, tokenizer = load_teacher("micro_gsm")
    task = TASKS["micro_gsm"]
    rows, rule = task.load("validation", 12, 0), SwitchRule(floor=1.0)
    same, rollout = look_at_texts(AdaSwitch(rule), teacher, teacher, tokenizer, task, rows, rule)
    assert same["kl_own"] == pytest.approx(0, abs=1e-5) and same["kl_data"] == pytest.approx(0, abs=1e-5)
    assert (rollout.switch_index < 0).all() and same["written_accuracy"] > 0.8
    student = new_model(ModelSize(1, 16, 2), tokenizer, seed=0).train()
    poor, rollout = look_at_texts(None, teacher, student, tokenizer, task, rows, rule)
    assert student.training and poor["mistaken"] == 1 and poor["kl_data"] > 1
    assert poor["written_accuracy"] == 1  # it learns from the data, which are right
    often = SwitchRule(multiplier=1.2)
    alone, own = look_at_texts(OnPolicy(), teacher, student, tokenizer, task, rows, often)
    assert alone["written_accuracy"] == 0 and alone["kl_own"] == poor["kl_own"]
    (again,) = against_chance(trace(own, tokenizer, 0, 12).assign(run="a"), task, rows, often).to_dict("records")
    assert {name: again[name] for name in alone if name in again} == {name: alone[name] for name in alone if name in again}
    assert 0 <= again["permuted_caught"] < 1 and again["wrong"] == 12
    other = look_at_texts(AdaSwitch(often, "reverse_kl"), teacher, student, tokenizer, task, rows, often)[0]
    assert "caught" not in other and other["kl_own"] == poor["kl_own"]  # a rule for another divergence judges no forward KL
    frame = trace(rollout, tokenizer, step=7, rows=3)
    assert set(frame.example) == {0, 1, 2} and set(frame.step) == {7} and "switch_index" in frame
