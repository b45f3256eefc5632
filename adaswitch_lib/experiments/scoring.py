"""Scores of text: ROUGE-L by the package rouge-score, and the final number by one plain rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from rouge_score.rouge_scorer import RougeScorer

_NUMBER = re.compile(r"(?:(?<![\d)])-)?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:/\d+)?")


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """F of the longest common subsequence of words, against the nearest reference; between 0 and 1."""
    return _scorer().score_multi(list(references), answer)["rougeL"].fmeasure


def final_number(text: str) -> float | None:
    """The number after "####" if there is one, else the last in the text; None without any.

    "1,234" is 1234, "3,4" ends in 4, and "1/4" is 0.25. A minus counts unless a number stands before it.
    """
    marked = text.rpartition("####")[2]
    numbers = _NUMBER.findall(marked)[:1] if "####" in text else _NUMBER.findall(text)
    if not numbers:
        return None
    value, _, divisor = numbers[-1].replace(",", "").partition("/")
    return float(value) / (float(divisor or 1) or float("nan"))


@cache
def _scorer() -> RougeScorer:
    return RougeScorer(["rougeL"], use_stemmer=False)
