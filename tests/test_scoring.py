"""Scores of text: the number that an answer gives, as models write it, and ROUGE-L."""

import json
import subprocess
import sys
import threading
import time
from fractions import Fraction

import pytest

from adaswitch_lib.experiments.paths import data_dir
from adaswitch_lib.experiments.scoring import accuracy, final_number, rouge_l

MARKED = {
    "She has 48/2 = 24.\n#### 72": 72,
    "#### 1,234": 1234,
    "#### 1/4": 0.25,
    "#### 3 1/2": 3.5,
    "#### 18\nQuestion: Bob has 3 pens.\n#### 7": 18,
    "#### 18\n#### 7": 18,
    "The answer is 18.\n\nQ: Bob has 3 pens.\nA: #### 7": 18,
    "A: 18\n\nQ: How many pens?\nA: 7": 18,
    "16 - 7 = 9\n\nQuestion: Bob has 3 pens.\nThe answer is 7.": 9,
    "#### Step 2: money\n9 * 2 = 18": 18,
    "#### 1. Eggs left\n16 - 7 = 9\n#### 2. Money\n9 * 2 = 18": 18,
    "#### 2) Money\n9 * 2 = 18": 18,
    "#### 9 x $2 = $18": 18,
    "#### x = 18": 18,
    "#### Answer: 18": 18,
    "#### -$5": -5,
    "#### **$18** per day": 18,
    "The answer is 5\n####": 5,
    "The answer is 18, because 9 + 9 = 18 and not 17 + 2.": 18,
    "The answer is 9 eggs * $2/egg = $18.": 18,
    "The answer is not 20. The answer is 18.": 18,
    "The answer is:\n\n$$18$$": 18,
    "The correct answer is therefore 18.5 kg.": 18.5,
    "The answer to the question of how many dollars she makes is 18. It took 2 steps.": 18,
    "The final answer is $\\boxed{18}$. I hope it is correct.": 18,
    "**Final Answer:** $18 per day for 7 days": 18,
    "### Final Answer\n\n18 dollars\n\nI used 3 facts.": 18,
    "Answer: 18\n\nExplanation: she sells 9 eggs at $2.": 18,
    "Answer: She eats 3 eggs.\nShe sells 9. 9 * 2 = 18 dollars": 18,
    "Answer: 16 - 3 - 4 = 9 eggs are left over. She makes 9 * 2 = 18.": 18,
}
"""Texts that say where their answer is."""

BOXED = {
    r"\boxed{18}. It took 2 steps.": 18,
    r"\boxed{18}" + "\nProblem: Bob has 3 pens.\n" + r"\boxed{7}": 18,
    r"\boxed{1{,}500}": 1500,
    r"\boxed{1\,500}": 1500,
    r"\boxed{\$1,500}": 1500,
    r"\boxed{-\$5}": -5,
    r"\boxed{18\text{ apples}}": 18,
    r"\boxed{\text{18 apples}}": 18,
    r"\boxed{18\ \text{m}^2}": 18,
    r"\boxed{18 m^2}": 18,
    r"\boxed{18\%}": 18,
    r"\boxed{x = 18}": 18,
    r"\boxed{9 \times 2 = 18}": 18,
    r"\boxed{9 \times 2}": 18,
    r"\boxed{\frac{3}{4}}": 0.75,
    r"\boxed{\dfrac34}": 0.75,
    r"\boxed{3\frac{1}{2}}": 3.5,
    r"\boxed{1.5 \times 10^3}": 1500,
    r"\boxed{2^5}": 32,
    r"\boxed{\sqrt{16}}": 4,
    r"It is \boxed{18": 18,
}

UNMARKED = {
    "**18**": 18,
    "$18": 18,
    "US$18": 18,
    "18 dollars": 18,
    "Rs.500": 500,
    "x = 18": 18,
    "18.00": 18,
    "1,234.5": 1234.5,
    "12,345,678 in all": 12345678,
    "2 and then 5.": 5,
    "he chose 3,4": 4,
    "so 10-5": 5,
    "3/4": 0.75,
    "a share of 3 1/2": 3.5,
    "25%": 25,
    "It is -3.": -3,
    "It is \u22123.": -3,
    "-$5": -5,
    r"$-5$": -5,
    "- $18 is what she makes": 18,
    "The area is 18 m^2.": 18,
    "The area is 18 m².": 18,
    r"The area is $18\text{ cm}^2$.": 18,
    r"He ate $\frac{3}{4}$ of it.": 0.75,
    r"\[ 9 \times 2 = 18 \]": 18,
    r"\begin{align*} x &= 9 \cdot 2 \\ &= 18 \end{align*}": 18,
    "Therefore, 18 apples. Let me know if you have 2 more questions!": 18,
    "Therefore, 18 apples.\n\nWould you like 2 more examples?": 18,
    "She makes **$18** a day by selling 9 eggs at $2 each.": 18,
    "**Step 1:** 16 - 7 = 9.\n**Step 2:** 9 * 2 = $18.": 18,
    "She has 18 on the 2nd day.": 18,
    "1. 16 - 7 = 9 eggs.\n2. So she makes money.": 9,
    "16 - 7 = 9 eggs.\nStep 2:": 9,
    "16 - 7 = 9 eggs, and then 9 *": 9,
    "共18个": 18,
    "none at all": None,
    "####": None,
    r"\boxed{}": None,
    "": None,
}


@pytest.mark.parametrize(("text", "number"), [*MARKED.items(), *BOXED.items(), *UNMARKED.items()])
def test_the_number_of_an_answer_as_models_write_it(text, number):
    assert final_number(text) == (None if number is None else pytest.approx(number))


def gold(name, answer):
    """The worked solutions of a real set, with the number of each."""
    if data_dir() is None:
        pytest.skip("ADASWITCH_DATA names no folder with the full sets")
    rows = [json.loads(line) for line in (data_dir() / name).read_text(encoding="utf-8").splitlines()]
    return [(row[answer], answer_field) for row in rows if (answer_field := row["answer"].rpartition("#### ")[2]) != "None"]


@pytest.mark.parametrize(
    ("name", "column"),
    [("gsm8k/train.jsonl", "answer"), ("gsm8k/test.jsonl", "answer"), ("gsm_plus/testmini.jsonl", "solution")],
)
def test_every_answer_of_the_real_sets_is_read(name, column):
    solutions = gold(name, column)
    for solution, answer in solutions:
        assert final_number(solution) == final_number(answer) == float(Fraction(answer.replace(",", "")))
    for written in ("The answer is ${}.", "So \\boxed{{{}}}. It took 2 steps.", "Answer: {}\n\nQuestion: 7", "So **{}** of 100."):
        for solution, answer in solutions[::20]:
            text = f"{solution.split(chr(10))[0]}\n{written.format(answer)}"
            assert final_number(text) == float(Fraction(answer.replace(",", ""))), text


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{9^{9^{9^{9}}}}",
        r"\boxed{" + "(" * 30 + "1+1" + ")" * 30 + "}",
        "1" * 5000,
        "A: 1" + "a" * 5000,
        "\\boxed{" * 2000,
        "answer is " * 2000,
        "1+" * 5000,
        "####" + " " * 5000,
    ],
)
def test_no_text_takes_long(text):
    final_number(r"\frac{1}{2}")  # the import of sympy is not counted
    start = time.perf_counter()
    final_number(text)
    assert time.perf_counter() - start < 2


def test_what_has_no_finite_value_is_no_answer():
    assert final_number("9" * 400) is final_number(r"\boxed{\frac{1}{0}}, no number") is None


def test_numbers_are_read_off_the_main_thread():
    numbers = []
    thread = threading.Thread(target=lambda: numbers.append(final_number(r"\boxed{\frac{7}{8}}")))
    thread.start()
    thread.join()
    assert numbers == [0.875]


def test_accuracy_counts_for_the_perturbation_too():
    assert accuracy(True) == {"accuracy": 1.0}
    assert accuracy(False, "steps") == {"accuracy": 0.0, "accuracy_steps": 0.0}


def test_rouge_l_takes_the_nearest_reference():
    assert rouge_l("the cat sat", ["a dog ran", "the cat sat down"]) == pytest.approx(2 * 1 * 0.75 / 1.75)
    assert rouge_l("", ["the cat"]) == 0.0


def test_tasks_are_imported_without_what_is_slow():
    slow = ("torch", "transformers", "datasets", "pandas", "nltk", "rouge_score", "math_verify", "sympy")
    code = f"import sys; from adaswitch_lib.experiments.tasks import TASKS; print([name for name in {slow} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
