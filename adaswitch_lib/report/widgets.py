"""What a notebook shows beside figures: coloured text, and sliders over a stored trace."""

from __future__ import annotations

import html
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import HTML, display
from matplotlib.figure import Figure

from adaswitch_lib.report.plot_style import COLOURS
from adaswitch_lib.report.rollout_figures import switch_trace
from adaswitch_lib.switching import SwitchRule, first_switch, switch_threshold


def coloured_tokens(trace: pd.DataFrame) -> HTML:
    """The completion as text, each token on the colour of its writer; its divergence shows under the pointer."""
    spans = [
        f'<span title="{row.source}, d = {row.divergence:.2f} nats" style="background:{COLOURS[row.source]}33">'
        f"{html.escape(row.token)}</span>"
        for row in trace.itertuples()
    ]
    return HTML(f'<div style="white-space:pre-wrap;line-height:1.7">{"".join(spans)}</div>')


def rule_on_trace(trace: pd.DataFrame, rule: SwitchRule) -> pd.DataFrame:
    """The student's own text under another rule: who would have written each token, and the thresholds.

    Args:
        trace: per-token table of one on-policy rollout, which does not depend on the rule.
        rule: the rule to try.

    Returns:
        The table with `threshold` by this rule, and `source` "teacher" from the switch on: what stands there is
        still the student's text, at places that the teacher would have rewritten.
    """
    divergence = torch.tensor(trace["divergence"].to_numpy(), dtype=torch.float32)[None]
    switch = int(first_switch(divergence, torch.ones_like(divergence), rule))
    return trace.assign(
        threshold=switch_threshold(divergence, rule)[0].numpy(),
        source=["teacher" if 0 <= switch <= pos else "student" for pos in trace["pos"]],
    )


def explore_rule(trace: pd.DataFrame, rule: SwitchRule, interactive: bool = True) -> Figure | None:
    """Sliders over K and L on a stored on-policy trace; with `interactive` off a static figure of `rule`, for headless runs."""

    def draw(rule: SwitchRule) -> Figure:
        figure = switch_trace(rule_on_trace(trace, rule)).figure
        plt.close(figure)  # shown by whoever gets it, not a second time by the notebook
        return figure

    if not interactive:
        return draw(rule)
    import ipywidgets

    ipywidgets.interact(
        lambda K, L: display(draw(replace(rule, multiplier=K, window=L))),
        K=ipywidgets.FloatSlider(rule.multiplier, min=1, max=10, step=0.25),
        L=ipywidgets.IntSlider(rule.window, min=1, max=32),
    )
    return None
