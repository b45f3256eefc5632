"""Chats of two speakers about a plan, to be summed up in one sentence; written by code from a seed.

    prompt      ann : hi bob . bob : hello ann . ann : shall we play chess on monday morning ? bob : i am busy on monday .
                what about friday evening ? ann : fine . bob : where ? ann : at the park . summary :
    completion  on friday evening ann and bob will play chess at the park .

Who does it, what, where and when are the facts. Proposals may be turned down, and small talk names
days and places that do not matter.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass

from adaswitch_lib.scoring import rouge_l
from adaswitch_lib.tasks.micro_gsm import HABIT, NAMES

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
        who = rng.choice((first, second, f"{first} and {second}"))
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


def _chat(plan: Plan, rng: random.Random) -> str:
    first, second = plan.speakers
    day, time = plan.when.split()
    turns = [(first, rng.choice((f"hi {second} .", f"hello {second} .", "hi .")))] if rng.random() < 0.7 else []
    if turns and rng.random() < 0.6:
        turns.append((second, _small_talk(rng, plan)))
    ask = {first: "i will {what}", second: "can you {what}"}.get(plan.who, "shall we {what}").format(what=plan.what)
    mark = "." if plan.who == first else "?"
    if rng.random() < 0.5:
        other = rng.choice([other for other in DAYS if other != day])
        turns.append((first, f"{ask} on {other} {rng.choice(TIMES)} {mark}"))
        turns.append((second, f"{rng.choice(('not', 'better not'))} on {other} . what about {day} {time} ?"))
        turns.append((first, rng.choice(("fine .", "yes .", "good idea ."))))
    else:
        turns.append((first, f"{ask} on {day} {time} {mark}"))
    turns.append((second, rng.choice(("where ?", "fine . where ?", "yes . where ?"))))
    if rng.random() < 0.4:
        other = rng.choice([other for other in PLACES if other != plan.where])
        turns.append((first, f"at the {other} ."))
        turns.append((second, f"the {other} is closed . better at the {plan.where} ."))
    else:
        turns.append((first, f"at the {plan.where} ."))
    if rng.random() < 0.3:
        turns.append((second if turns[-1][0] == first else first, rng.choice(("good .", "see you .", "bye ."))))
    return " ".join(f"{who} : {what}" for who, what in turns)


def _small_talk(rng: random.Random, plan: Plan) -> str:
    return rng.choice(
        (
            "how are you ?",
            f"it was cold at the {rng.choice(PLACES)} on {rng.choice(DAYS)} .",
            f"i saw {rng.choice([name for name in NAMES if name not in plan.speakers])} on {rng.choice(DAYS)} .",
        )
    )
