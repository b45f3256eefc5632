"""Word problems with a worked solution, and the perturbations of GSM-Plus of them; written by code from a seed.

    prompt      ann has 1 2 apples . ann buys 7 apples . ann loses 4 apples . how many apples does ann have now ? answer :
    completion  first 1 2 + 7 = 1 9 . then 1 9 - 4 is 1 5 . so ann has 1 5 apples .

A solution can be worded in many ways, and which one is likely depends on name and thing, as people have
habits: so the next-token distribution keeps some entropy, and a student much to learn besides arithmetic.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaswitch_lib.experiments.scoring import accuracy
from adaswitch_lib.experiments.tasks.task import Task, check_split

if TYPE_CHECKING:
    from datasets import Dataset

NAMES = tuple("ann bob carl dora emil fay gus hana".split())
THINGS = tuple("apples books cards pens shells coins stones cups".split())
GAINS = ("buys", "finds", "gets")
LOSSES = ("sells", "loses", "gives away")
# what only perturbed problems use
OTHER_NAMES = tuple("ivy jan kim leo".split())
OTHER_THINGS = tuple("boxes hats keys nuts".split())
OTHER_GAINS, OTHER_LOSSES = ("picks up", "makes"), ("drops", "throws away")

PERTURBATIONS = ("distraction", "steps", "numbers", "words", "reversed")
HABIT = 0.6
"""How often a sentence of a solution follows the habit that name and thing have, instead of any wording."""

CONNECTIVES = ("first", "then", "now", "next", "so")
EQUATIONS = {
    "+": ("{a} + {b} = {c}", "{a} + {b} is {c}", "{a} + {b} makes {c}"),
    "-": ("{a} - {b} = {c}", "{a} - {b} is {c}", "{a} - {b} leaves {c}"),
}
ENDINGS = ("the answer is {c} .", "so {name} has {c} {thing} .", "{name} has {c} {thing} now .")
ENDINGS_REVERSED = ("the answer is {c} .", "so {name} had {c} {thing} .", "{name} had {c} {thing} before .")


@dataclass(frozen=True)
class Problem:
    """`start` things, then `steps`: pairs of "+" or "-" and a number. No count falls below 1."""

    name: str
    thing: str
    start: int
    steps: tuple[tuple[str, int], ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many things there are at the start and after each step."""
        counts = [self.start]
        for sign, number in self.steps:
            counts.append(counts[-1] + number if sign == "+" else counts[-1] - number)
        return tuple(counts)

    @property
    def split(self) -> str:
        """Each problem belongs to one split, whatever seed draws it: one in twenty to test and to validation."""
        share = zlib.crc32(repr(self).encode()) % 20
        return {0: "test", 1: "validation"}.get(share, "train")


def draw_problem(
    rng: random.Random,
    *,
    steps: range = range(2, 5),
    starts: range = range(2, 50),
    changes: range = range(1, 31),
    largest: int = 99,
    names: tuple[str, ...] = NAMES,
    things: tuple[str, ...] = THINGS,
) -> Problem:
    """A problem whose counts stay between 1 and `largest`."""
    count = start = rng.choice(starts)
    drawn = []
    for _ in range(rng.choice(steps)):
        number = rng.choice(changes)
        sign = rng.choice([sign for sign, after in (("+", count + number), ("-", count - number)) if 1 <= after <= largest])
        count += number if sign == "+" else -number
        drawn.append((sign, number))
    return Problem(rng.choice(names), rng.choice(things), start, tuple(drawn))


def problems(split: str, seed: int, perturbation: str | None = None) -> Iterator[Problem]:
    """Endless problems of one split, each drawn anew."""
    rng = random.Random(f"micro_gsm {split} {seed} {perturbation}")
    change = {
        "steps": {"steps": range(5, 6)},
        "numbers": {"starts": range(100, 200), "changes": range(10, 100), "largest": 299},
        "words": {"names": OTHER_NAMES, "things": OTHER_THINGS},
    }.get(perturbation, {})
    while True:
        problem = draw_problem(rng, **change)
        if problem.split == split:
            yield problem


def row(problem: Problem, rng: random.Random, perturbation: str | None = None) -> dict[str, str]:
    """Prompt, completion, answer and perturbation ("" for none), worded by `rng`."""
    return {
        "prompt": _prompt(problem, rng, perturbation),
        "completion": _solution(problem, rng, reverse=perturbation == "reversed"),
        "answer": str(problem.start if perturbation == "reversed" else problem.counts[-1]),
        "perturbation": perturbation or "",
    }


def last_number(text: str) -> str | None:
    """The last number of a text that writes digits as words of their own ("1 5" is "15"); None if there is none."""
    numbers = re.findall(r"\d(?: \d)*", text)
    return numbers[-1].replace(" ", "") if numbers else None


def score(completion: str, row: dict[str, str]) -> dict[str, float]:
    """1 if the last number is the answer, for the task and for the row's perturbation."""
    return accuracy(last_number(completion) == row["answer"], row["perturbation"])


def first_mistake(completion: str, row: dict[str, str]) -> int | None:
    """Index of the first word at which a solution goes wrong: its length where it ends too early, None if it is right.

    However it is worded, a right solution has the digits, signs and full stops of the row's own, in this order.
    """
    words, expected = completion.split(), [word for word in row["completion"].split() if _counts(word)]
    counted = [i for i, word in enumerate(words) if _counts(word)]
    for place, i in enumerate(counted):
        if place >= len(expected) or words[i] != expected[place]:
            return i
    return len(words) if len(counted) < len(expected) else None


def _counts(word: str) -> bool:
    return word.isdigit() or word in "+-."


def _prompt(problem: Problem, rng: random.Random, perturbation: str | None) -> str:
    name, thing = problem.name, problem.thing
    gains, losses = (OTHER_GAINS, OTHER_LOSSES) if perturbation == "words" else (GAINS, LOSSES)
    start = "some" if perturbation == "reversed" else digits(problem.start)
    sentences = [f"{name} has {start} {thing} ."]
    for sign, number in problem.steps:
        sentences.append(f"{name} {rng.choice(gains if sign == '+' else losses)} {digits(number)} {thing} .")
    if perturbation == "distraction":
        other = rng.choice([other for other in NAMES if other != name])
        sentences.insert(rng.randint(1, len(sentences)), f"{other} has {digits(rng.randint(2, 49))} {rng.choice(THINGS)} .")
    if perturbation == "reversed":
        sentences.append(f"now {name} has {digits(problem.counts[-1])} {thing} .")
        sentences.append(f"how many {thing} had {name} before ?")
    elif perturbation == "words":
        sentences.append(f"what number of {thing} is left ?")
    else:
        sentences.append(f"how many {thing} does {name} have now ?")
    return " ".join([*sentences, "answer :"])


def _solution(problem: Problem, rng: random.Random, reverse: bool) -> str:
    words = [*NAMES, *OTHER_NAMES].index(problem.name) + 3 * [*THINGS, *OTHER_THINGS].index(problem.thing)

    def word(choices: tuple[str, ...], step: int) -> str:
        return choices[(words + step) % len(choices)] if rng.random() < HABIT else rng.choice(choices)

    steps = list(zip(problem.counts, problem.steps, problem.counts[1:], strict=False))
    if reverse:
        steps = [(after, ("-" if sign == "+" else "+", number), before) for before, (sign, number), after in reversed(steps)]
    sentences = []
    for i, (before, (sign, number), after) in enumerate(steps):
        equation = word(EQUATIONS[sign], i).format(a=digits(before), b=digits(number), c=digits(after))
        sentences.append(f"{word(CONNECTIVES, i)} {equation} .")
    ending = word(ENDINGS_REVERSED if reverse else ENDINGS, len(steps))
    return " ".join([*sentences, ending.format(name=problem.name, thing=problem.thing, c=digits(steps[-1][2]))])


def digits(number: int) -> str:
    """A number as words: its digits, one by one."""
    return " ".join(str(number))


def rows(split: str, size: int, seed: int, perturbations: tuple[str | None, ...]) -> Dataset:
    """Problems whose perturbations take turns; None is a plain one."""
    from datasets import Dataset

    check_split("micro_gsm", split)
    drawn = {perturbation: problems(split, seed, perturbation) for perturbation in perturbations}
    rng = random.Random(f"wording {split} {seed} {perturbations}")
    turns = (perturbations[i % len(perturbations)] for i in range(size))
    return Dataset.from_list([row(next(drawn[turn]), rng, turn) for turn in turns])


def load(split: str, size: int, seed: int) -> Dataset:
    return rows(split, size, seed, (None,))


def teacher_rows(split: str, size: int, seed: int) -> Dataset:
    """Plain and perturbed problems: a large model would know both."""
    return rows(split, size, seed, (None, None, *PERTURBATIONS))


TASK = Task(
    name="micro_gsm",
    label="word problems",
    style=("#332288", "o"),
    metric="accuracy",
    metric_label="accuracy",
    load=load,
    score=score,
    max_prompt_tokens=64,
    max_new_tokens=64,
    first_mistake=first_mistake,
    teacher_rows=teacher_rows,
    is_micro=True,
)
