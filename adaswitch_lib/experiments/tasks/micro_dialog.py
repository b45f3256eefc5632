"""Chats of two speakers about a plan, to be summed up in one sentence; written by code from a seed.

    prompt      ann : hi bob . bob : i saw carl on sunday . ann : shall we play chess on monday morning ? bob : not on monday .
                what about friday ? ann : fine . bob : where ? ann : at the park . bob : the park is closed . better at the
                school . summary :
    completion  on friday morning ann and bob will play chess at the school .

Who does it, what, where and when are the facts. Proposals may be turned down, and small talk names people, days and
places that do not matter.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from itertools import islice
from typing import TYPE_CHECKING

from adaswitch_lib.experiments.scoring import rouge_l
from adaswitch_lib.experiments.tasks.micro_gsm import HABIT, NAMES
from adaswitch_lib.experiments.tasks.task import Task, check_split

if TYPE_CHECKING:
    from datasets import Dataset

PLANS = tuple(
    "play chess|eat lunch|see a film|paint the wall|bake a cake|fix the bike|plant a tree|read poems|buy shoes|write songs".split(
        "|"
    )
)
PLACES = tuple("park school library beach station market museum garden".split())
DAYS = tuple("monday tuesday wednesday thursday friday saturday sunday".split())
TIMES = ("morning", "noon", "evening")

SUMMARIES = (
    "{who} will {what} at the {where} on {when} .",
    "on {when} {who} will {what} at the {where} .",
    "at the {where} {who} will {what} on {when} .",
    "{who} will be at the {where} on {when} to {what} .",
    "the plan is that {who} will {what} on {when} at the {where} .",
)


@dataclass(frozen=True)
class Plan:
    """The facts of a chat: who ("ann", or "ann and bob"), what, where, and when (day and time)."""

    speakers: tuple[str, str]
    who: str
    what: str
    where: str
    when: str

    @property
    def split(self) -> str:
        """Each plan belongs to one split: one in twenty to test and to validation."""
        share = zlib.crc32(repr(astuple(self)).encode()) % 20
        return {0: "test", 1: "validation"}.get(share, "train")

    def summaries(self) -> list[str]:
        """Every way to sum it up."""
        return [pattern.format(who=self.who, what=self.what, where=self.where, when=self.when) for pattern in SUMMARIES]


def plans(split: str, seed: int) -> Iterator[Plan]:
    """Endless plans of one split, each drawn anew."""
    rng = random.Random(f"micro_dialog {split} {seed}")
    while True:
        first, second = speakers = tuple(rng.sample(NAMES, 2))
        who = rng.choice((first, second, f"{first} and {second}", rng.choice([name for name in NAMES if name not in speakers])))
        plan = Plan(speakers, who, rng.choice(PLANS), rng.choice(PLACES), f"{rng.choice(DAYS)} {rng.choice(TIMES)}")
        if plan.split == split:
            yield plan


def row(plan: Plan, rng: random.Random) -> dict[str, str | list[str]]:
    """Prompt, completion, its facts, and all summaries as `references`."""
    habit = NAMES.index(plan.speakers[0]) + PLANS.index(plan.what)
    references = plan.summaries()
    completion = references[habit % len(references)] if rng.random() < HABIT else rng.choice(references)
    return {
        "prompt": f"{_chat(plan, rng)} summary :",
        "completion": completion,
        "who": plan.who,
        "what": plan.what,
        "where": plan.where,
        "when": plan.when,
        "references": references,
    }


def facts(text: str) -> dict[str, str]:
    """Who, what, where and when a sentence names; all of them, joined by "and", where it names several."""
    words = text.split()

    def named(choices: tuple[str, ...]) -> str:
        return " and ".join(word for word in words if word in choices)

    phrase = " ".join(words)
    return {
        "who": named(NAMES),
        "what": " and ".join(what for what in PLANS if what in phrase),
        "where": named(PLACES),
        "when": f"{named(DAYS)} {named(TIMES)}",
    }


def score(completion: str, row: dict[str, str | list[str]]) -> dict[str, float]:
    """`facts`: share of the four that are right; `all_facts`: 1 if all are; `rouge_l`: F, against the nearest reference."""
    found = facts(completion)
    right = [found[fact] == row[fact] for fact in ("who", "what", "where", "when")]
    return {"all_facts": float(all(right)), "facts": sum(right) / len(right), "rouge_l": rouge_l(completion, row["references"])}


def first_mistake(completion: str, row: dict[str, str | list[str]]) -> int | None:
    """Index of the first word that names a fact which is not the row's; its length where facts are missing, None if it is right."""
    right = set(" ".join(row[fact] for fact in ("who", "what", "where", "when")).split())
    words = completion.split()
    for i, word in enumerate(words):
        if word in _FACT_WORDS and word not in right:
            return i
    return None if score(completion, row)["all_facts"] else len(words)


_FACT_WORDS = {*NAMES, *" ".join(PLANS).split(), *PLACES, *DAYS, *TIMES} - {"the", "a"}
"""Words that a summary may only use for its facts."""


def _chat(plan: Plan, rng: random.Random) -> str:
    """Up to two of what, day, time and place are proposed otherwise at first, and who may turn out to be someone else."""
    first, second = plan.speakers
    day, time = plan.when.split()
    said = {"what": plan.what, "day": day, "time": time, "where": plan.where}
    changed = rng.sample(list(said), rng.choice((0, 1, 2, 2)))
    for fact in changed:
        choices = {"what": PLANS, "day": DAYS, "time": TIMES, "where": PLACES}[fact]
        said[fact] = rng.choice([other for other in choices if other != said[fact]])
    turns = [(first, rng.choice((f"hi {second} .", f"hello {second} .", "hi .")))]
    if rng.random() < 0.7:
        turns.append((second, _small_talk(rng, plan)))
    ask = {first: "i will {what}", f"{first} and {second}": "shall we {what}"}.get(plan.who, "can you {what}").format(
        what=said["what"]
    )
    turns.append((first, f"{ask} on {said['day']} {said['time']} {'.' if plan.who == first else '?'}"))
    answers = {
        "what": f"better {plan.what} .",
        "day": f"not on {said['day']} . what about {day} ?",
        "time": f"not the {said['time']} . what about {time} ?",
    }
    objections = [answers[fact] for fact in changed if fact in answers]
    if plan.who not in (first, second, f"{first} and {second}"):
        objections.insert(0, f"not i . {plan.who} can .")
    if objections:
        turns += [(second, " ".join(objections)), (first, rng.choice(("fine .", "yes .", "good idea .")))]
    turns += [(second, rng.choice(("where ?", "fine . where ?", "yes . where ?"))), (first, f"at the {said['where']} .")]
    if "where" in changed:
        turns.append((second, f"the {said['where']} is closed . better at the {plan.where} ."))
    elif rng.random() < 0.3:
        turns.append((second, rng.choice(("good .", "see you .", "bye ."))))
    return " ".join(f"{who} : {what}" for who, what in turns)


def _small_talk(rng: random.Random, plan: Plan) -> str:
    return rng.choice(
        (
            "how are you ?",
            f"it was cold at the {rng.choice(PLACES)} on {rng.choice(DAYS)} .",
            f"i saw {rng.choice([name for name in NAMES if name not in plan.speakers])} on {rng.choice(DAYS)} .",
        )
    )


def load(split: str, size: int, seed: int) -> Dataset:
    from datasets import Dataset

    check_split("micro_dialog", split)
    rng = random.Random(f"wording {split} {seed}")
    return Dataset.from_list([row(plan, rng) for plan in islice(plans(split, seed), size)])


TASK = Task(
    name="micro_dialog",
    label="dialogues",
    style=("#CC6677", "s"),
    metric="all_facts",
    metric_label="all facts",
    load=load,
    score=score,
    max_prompt_tokens=96,
    max_new_tokens=24,
    first_mistake=first_mistake,
    is_micro=True,
)
