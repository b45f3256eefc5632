"""Sliders over a stored rollout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from adaswitch_lib.report.display import Html
from adaswitch_lib.report.figures import figure_2, show

if TYPE_CHECKING:
    from adaswitch_lib.switching import SwitchRule


def under_rule(trace: pd.DataFrame, threshold: Sequence[float]) -> pd.DataFrame:
    """The student's own text under another rule: who would have written each token.

    Args:
        trace: per-token table of one on-policy rollout, which does not depend on the rule.
        threshold: that rule's thresholds along it, of `switch_threshold` [nats].

    Returns:
        The table with `threshold`, and `source` "teacher" from the first token above it on: what stands there is still the
        student's text, at places that the teacher would have rewritten.
    """
    taken = (trace["divergence"] > list(threshold)).cummax()
    return trace.assign(threshold=list(threshold), source=taken.map({True: "teacher", False: "student"}))


def explore_rule(
    trace: pd.DataFrame, rule: SwitchRule, thresholds: Callable[[SwitchRule], Sequence[float]], interactive: bool = True
) -> Html | None:
    """Sliders over K and L on a stored on-policy trace; with `interactive` off a static figure of `rule`, for headless runs.

    Args:
        thresholds: of a rule along the trace, as `under_rule` takes them.
    """

    def draw(rule: SwitchRule) -> Html:
        return show(figure_2(under_rule(trace, thresholds(rule))))

    if not interactive:
        return draw(rule)
    import ipywidgets
    from IPython.display import display

    ipywidgets.interact(
        lambda K, L: display(draw(replace(rule, multiplier=K, window=L))),
        K=ipywidgets.FloatSlider(rule.multiplier, min=1, max=10, step=0.25),
        L=ipywidgets.IntSlider(rule.window, min=1, max=32),
    )
    return None
