"""Figures of single rollouts: who wrote which token, and why.

They take the per-token table of `Rollout.to_frame` (columns pos, token, source, divergence, threshold).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from adaswitch_lib.experiments.records import with_settings
from adaswitch_lib.report.figures.style import figure
from adaswitch_lib.report.plot_style import COLOURS

_LINE = 118
"""Characters in a line of figure 1, at the text width of a paper."""


@figure
def figure_1(traces: Mapping[str, pd.DataFrame], max_lines: int = 2, limit: int | None = None, prompt: str = "") -> Axes:
    """Figure 1: who wrote each token of one completion under each policy, student or teacher.

    Args:
        traces: name of the policy -> per-token table of one example.
        max_lines: lines of text a policy gets; longer completions are cut, which an ellipsis says.
        limit: tokens that a completion could have; of those that have as many it is said that they stop there.
        prompt: what they complete; written above them, and cut after four lines.
    """
    asked = textwrap.wrap(" ".join(prompt.split()), _LINE, max_lines=4, placeholder=" …")
    _, ax = plt.subplots(figsize=(7.0, 0.30 + 0.14 * len(asked) + 0.30 * max_lines * len(traces)))
    for i, line in enumerate(asked):
        ax.text(0, 0.8 * i, line.replace("$", r"\$"), fontsize=6.5, family="DejaVu Sans Mono", color="0.35", va="center")
    y = 0.8 * len(asked) + 0.7 if asked else 0.0
    for name, trace in traces.items():
        ax.text(0, y, name, fontsize=7, fontweight="bold", va="center")
        ax.text(_LINE, y, _share(trace, limit), fontsize=6, color="0.35", va="center", ha="right")
        y = _write_tokens(ax, trace, y + 1.0, max_lines) + 1.4
    ax.set(xlim=(0, _LINE), ylim=(y - 0.7, -0.8))
    ax.axis("off")
    handles = [Patch(facecolor=_tint(who), edgecolor="none", label=f"written by the {who}") for who in COLOURS]
    ax.legend(handles=handles, loc="lower right", ncols=2, bbox_to_anchor=(1, 0.995), borderaxespad=0, handlelength=1.2)
    return ax


@figure
def figure_2(trace: pd.DataFrame, max_tokens: int = 32) -> Axes:
    """Figure 2: the divergence of each token along one rollout, the threshold, and the token at which the teacher takes over.

    Args:
        trace: per-token table of one example.
        max_tokens: how many tokens to show, from the first.
    """
    trace = trace[trace["pos"] < max_tokens]
    taken = trace.loc[trace["source"] == "teacher", "pos"]
    _, ax = plt.subplots(figsize=(7.0, 2.4))
    pos = trace["pos"].to_numpy()
    explored = trace[trace["pos"] <= (taken.min() if len(taken) else np.inf)]
    threshold = explored["threshold"].replace(np.inf, np.nan)
    top = 1.28 * np.nanmax([trace["divergence"].max(), threshold.max(), 1e-3])
    for who, colour in COLOURS.items():
        for first in pos[(trace["source"] == who).to_numpy()]:
            ax.axvspan(first - 0.5, first + 0.5, color=colour, alpha=0.10, lw=0)
    ax.plot(pos, trace["divergence"], "o-", color="0.15", ms=2.5, lw=0.9, label="divergence $d_i$")
    ax.step(explored["pos"], threshold, where="mid", color="#009E73", ls="--", label=r"threshold $\tau_i$")
    ax.set(xlim=(-0.5, pos.max() + 0.5), ylim=(0, top), ylabel="KL(teacher ‖ student) [nats]", xlabel="token")
    ax.set_xticks(pos, [_visible(token) for token in trace["token"]], rotation=90, family="DejaVu Sans Mono", fontsize=6)
    for tick, source in zip(ax.get_xticklabels(), trace["source"], strict=True):
        tick.set_color(COLOURS[source])
    if len(taken):
        _mark_switch(ax, int(taken.min()), float(trace.loc[trace["pos"] == taken.min(), "divergence"].iloc[0]), top)
    ax.legend(loc="lower right", ncols=2, bbox_to_anchor=(1, 1), borderaxespad=0.2)
    return ax


@figure
def real_rollout(results: Path, seed: int, example: int) -> Axes:
    """A training text of AdaSwitch before the first step and after the last: who wrote each token."""
    kept = _kept(results, seed, example)
    return figure_1({f"step {step}": kept[kept.step == step] for step in (kept.step.min(), kept.step.max())})


@figure
def real_divergence(results: Path, seed: int, example: int) -> Axes:
    """The divergence of each token along a training text of AdaSwitch before the first step, the threshold, and the token at which
    the teacher takes over."""
    kept = _kept(results, seed, example)
    return figure_2(kept[kept.step == kept.step.min()])


def _kept(results: Path, seed: int, example: int) -> pd.DataFrame:
    """Tokens of one validation prompt at every evaluation, as AdaSwitch had them written."""
    return with_settings(results, "traces").query("method == 'adaswitch' and seed == @seed and example == @example")


def _write_tokens(ax: Axes, trace: pd.DataFrame, y: float, max_lines: int) -> float:
    """Tokens as coloured boxes in running lines of fixed-width text; returns the y of the last line."""
    x, line = 0, 1
    for token, source in zip(trace["token"], trace["source"], strict=True):
        text = _visible(token)
        room = _LINE - (2 if line == max_lines else 0)
        if x + len(text) > room:
            if line == max_lines:
                ax.text(x + 0.5, y, "…", fontsize=6.5, family="DejaVu Sans Mono", va="center")
                break
            x, y, line = 0, y + 1.0, line + 1
        ax.add_patch(Rectangle((x + 0.06, y - 0.42), len(text) - 0.12, 0.84, facecolor=_tint(source), edgecolor="none"))
        ax.text(x + len(text) / 2, y, text, fontsize=6.5, family="DejaVu Sans Mono", va="center", ha="center")
        x += len(text)
    return y


def _mark_switch(ax: Axes, position: int, divergence: float, top: float) -> None:
    ax.axvline(position, ymin=divergence / top + 0.04, ymax=0.88, color=COLOURS["teacher"], lw=0.8, ls=":")
    ax.plot(position, divergence, "o", mfc="none", mec=COLOURS["teacher"], mew=1.2, ms=7)
    right = position < ax.get_xlim()[1] * 0.6
    label = f"$d_{{{position}}} > \\tau_{{{position}}}$: the teacher takes over"
    place = {"ha": "left" if right else "right", "va": "bottom", "fontsize": 6.5, "color": COLOURS["teacher"]}
    ax.text(position, 0.89 * top, label, **place)


def _share(trace: pd.DataFrame, limit: int | None) -> str:
    cut = ", the limit" if len(trace) == limit else ""
    return f"{len(trace)} tokens{cut}; {(trace['source'] == 'teacher').mean():.0%} by the teacher"


def _tint(who: str) -> str:
    return {"student": "#BBDDF2", "teacher": "#F8CDB0"}[who]


def _visible(token: str) -> str:
    """The token with white space that can be seen, and no mathtext."""
    return token.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "·").replace("$", r"\$") or "∅"
