r"""Scores of text: ROUGE-L by the package rouge-score, and the number that an answer gives; its LaTeX is read by math-verify.

A text is read in three steps: it is cut where another question begins, its markup is made plain, and then the first marked
answer counts ("#### 18", "\boxed{18}", "the answer is 18"), else the last number that can be one.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """F of the longest common subsequence of words, against the nearest reference; between 0 and 1."""
    return _scorer().score_multi(list(references), answer)["rougeL"].fmeasure


@cache
def _scorer() -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer  # takes half a second, since it imports nltk

    return RougeScorer(["rougeL"], use_stemmer=False)


def accuracy(is_right: bool, perturbation: str = "") -> dict[str, float]:
    """The scores of an answer that is right or wrong: `accuracy`, and the same under the name of the question's perturbation."""
    return {"accuracy": float(is_right)} | ({f"accuracy_{perturbation}": float(is_right)} if perturbation else {})


def final_number(text: str) -> float | None:
    r"""The number that a worked answer ends in; None without any.

    The first of these that is there: "#### 18", "\boxed{18}", "the final answer is 18", a line "Answer: 18"; else the last
    number of the text, a bold one before others of its sentence. What follows another "Question:" does not count, nor do
    headings, numbers of steps, "2nd", "m^2", and closing remarks. "25%" is 25, "1/4" is 0.25, "1{,}500" is 1500, "-$5" is -5.
    """
    for part in _NEXT_QUESTION.split(text):
        for expression in chain(_marked(_plain(part)), _unmarked(part)):
            if (value := _value(expression)) is not None:
                return value
    return None


_NEXT_QUESTION = re.compile(r"(?im)^[#*> \t]*(?:question|problem|q|user|human|instruction)[ \t]*\d*[* \t]*(?::|$)")

_DIGITS = r"(?<![A-Za-z_\d^])(?:(?:\d{1,3}(?:,\d{3})++(?!\d)|\d++)(?:\.\d++)?|\.\d++)"
_SIGN = r"(?:(?<![A-Za-z\d)}])-)?"
_BRACES = r"\{[^{}=]*\}"
_FRACTION = rf"(?:{_DIGITS})?\\frac(?:{_BRACES}{_BRACES}|\d\d)"
_ATOM = rf"(?:{_FRACTION}|(?:{_DIGITS})?\\(?:sqrt{_BRACES}|pi)|{_DIGITS}|\([\d.,+\-*/ ]*\d\))"
_EXPRESSION = rf"{_SIGN}{_ATOM}(?:\s*[-+*/]\s*-?{_ATOM}|\^(?:\{{-?\d+\}}|-?\d+))*"
_UNIT = r"(?:\s*[A-Za-z%]+){0,2}(?:\s*/\s*[A-Za-z]+)?"
_EQUATION = re.compile(rf"{_EXPRESSION}{_UNIT}(?:\s*[-+*/=]\s*{_EXPRESSION}{_UNIT})*")
"""Arithmetic as people write it, units between: 9 eggs * 2 dollars/egg = 18 dollars."""

_NUMBER = re.compile(rf"{_SIGN}(?:{_FRACTION}|{_DIGITS}(?:/[1-9]\d*)?)(?!\d|(?:st|nd|rd|th)\b)")
"""A number in running text; not the 2 of "2nd"."""

# "1. Eggs left" and "2) Money" behind #### are headings, no answers
_HEADING = r"\d+[ \t]*[.):–—-][ \t]+[A-Za-z]"
_SENTENCE = r"[\s:]*((?:[^\n.]|\.\d)*)"
_MARKS = (
    rf"####+(?!\s*{_HEADING})[\s=~]*+(?:[A-Za-z]\s*=\s*)?(?=[-.\d(\\])([^\n]*)",
    r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)",  # the closing brace may be missing: a text that was cut
    rf"(?i)\banswer\b[^\n.:\d]{{0,80}}?\bis\b(?!\s+not\b){_SENTENCE}",
    rf"(?i)\bfinal answer\b{_SENTENCE}",
    r"(?im)^[# \t]*(?:answer|a)[ \t]*:\s*([^A-Za-z\d\n]*+\d[^A-Za-z\n]*+(?:[A-Za-z]++[^A-Za-z\n]*+){0,3})$",
)
"""What an answer is marked by, the surest first; the group is where it stands."""


def _marked(text: str) -> Iterator[str]:
    """What the marked answers say, the surest mark first: of an equation its last side."""
    for mark in _MARKS:
        for segment in re.findall(mark, text):
            if equation := _EQUATION.search(segment):
                yield re.search(_EXPRESSION, equation[0].rpartition("=")[2])[0]


_BOLD = re.compile(r"\*\*(.+?)\*\*")
_STEP = re.compile(r"(?im)\bstep\s+\d+\b|^[#* \t]*\d+[.)][ \t]+(?=\S)")
_REMARK = re.compile(r"(?i)\b(?:let me know|feel free|hope (?:this|that|it))\b|\?\W*$")


def _unmarked(text: str) -> Iterator[str]:
    """The last number of each sentence, the last sentence first; questions and closing remarks come after all others."""
    sentences = re.split(r"(?<=[.!?])\s+|\n+", _STEP.sub(" ", text))[::-1]
    for sentence in sorted(sentences, key=lambda sentence: bool(_REMARK.search(sentence))):
        for piece in (*_BOLD.findall(sentence)[::-1], sentence):
            yield from _NUMBER.findall(_plain(piece))[-1:]


_PLAIN = [
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}(?:\^\{?\d\}?)?", r" \1 "),
        (r"(?<=[A-Za-z])\^(?:\{-?\d+\}|-?\d+)", " "),  # square metres
        (r"\u2212", "-"),
        (r"(?<=\d)(?:\{,\}|\\[,!;: ]|[\u00a0\u2009\u202f])(?=\d{3}(?!\d))", ","),  # thousands
        (r"\\\\", "\n"),
        (r"\\(?:[()\[\],!;: ]|left\b|right\b|displaystyle\b|quad\b)|\*\*|__|[`&]", " "),
        (r"\\(?:times|cdot)\b|×|·", "*"),
        (r"\\div\b|÷", "/"),
        (r"\\approx\b|≈", "="),
        (r"\\[dt]frac", r"\\frac"),
        (r"(?<![A-Za-z\d)}])-\\?[$£€]", "-"),
        (r"\\?[$£€]", " "),
        (r"(?<=\d)\s*[xX]\s*(?=\d)", "*"),
        (r"(?<![\d.,/])(\d+) +(\d+)/(\d+)(?![\d/])", r"\1\\frac{\2}{\3}"),  # 3 1/2
    )
]


def _plain(text: str) -> str:
    """The text without Markdown, currencies and LaTeX's layout; fractions and roots stay LaTeX."""
    for pattern, plain in _PLAIN:
        text = pattern.sub(plain, text)
    return text


def _value(expression: str) -> float | None:
    """What a number or a piece of arithmetic comes to; None where that is not finite, or would take long to work out."""
    expression = expression.replace(",", "")
    numerator, _, divisor = expression.partition("/")
    try:
        value = float(numerator) / float(divisor or 1)
    except ValueError:
        value = _worked_out(expression)
    except ZeroDivisionError:
        return None
    return value if value is not None and math.isfinite(value) else None


def _worked_out(expression: str) -> float | None:
    if len(expression) > 60 or expression.count("^") > 1 or expression.count("(") > 4:  # towers of powers would take for ever
        return None
    from math_verify import LatexExtractionConfig, parse  # takes half a second, since it imports sympy

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of having no timeout
    # no timeout: it is one by SIGALRM, for the main thread alone, and would end the alarm of others
    found = parse(f"${expression}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
    try:
        return float(found[0].evalf())
    except (AttributeError, IndexError, TypeError, ValueError, OverflowError):  # no number: a set, a root of -1
        return None
