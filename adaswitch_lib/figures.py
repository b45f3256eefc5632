"""One function a figure: data and `ax` in, axes out. No torch.

Those of rollouts take the per-token table of `Rollout.to_frame` (columns pos, token, source, divergence, threshold).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from adaswitch_lib.looks import COLOURS, COSTS, LOOKS, STYLE
from adaswitch_lib.statistics import over_seeds

_LINE = 118
"""Characters in a line of figure 1, at the text width of a paper."""


def writers(traces: Mapping[str, pd.DataFrame], ax: Axes | None = None, max_lines: int = 2, limit: int | None = None) -> Axes:
    """Figure 1: who wrote each token of one completion under each policy.

    Args:
        traces: name of the policy -> per-token table of one example.
        max_lines: lines of text a policy gets; longer completions are cut, which an ellipsis says.
        limit: tokens that a completion could have; of those that have as many it is said that they stop there.
    """
    with plt.style.context(STYLE):
        if ax is None:
            _, ax = plt.subplots(figsize=(7.0, 0.30 + 0.30 * max_lines * len(traces)))
        y = 0.0
        for name, trace in traces.items():
            ax.text(0, y, name, fontsize=7, fontweight="bold", va="center")
            ax.text(_LINE, y, _share(trace, limit), fontsize=6, color="0.35", va="center", ha="right")
            y = _write_tokens(ax, trace, y + 1.0, max_lines) + 1.4
        ax.set(xlim=(0, _LINE), ylim=(y - 0.7, -0.8))
        ax.axis("off")
        handles = [Patch(facecolor=_tint(who), edgecolor="none", label=f"written by the {who}") for who in COLOURS]
        ax.legend(handles=handles, loc="lower right", ncols=2, bbox_to_anchor=(1, 0.995), borderaxespad=0, handlelength=1.2)
    return ax


def switch_trace(trace: pd.DataFrame, ax: Axes | None = None, max_tokens: int = 32) -> Axes:
    """Figure 2: the divergence d_i along one rollout, its threshold τ_i, and the token at which the teacher takes over.

    Args:
        trace: per-token table of one example.
        max_tokens: how many tokens to show, from the first.
    """
    trace = trace[trace["pos"] < max_tokens]
    taken = trace.loc[trace["source"] == "teacher", "pos"]
    with plt.style.context(STYLE):
        if ax is None:
            _, ax = plt.subplots(figsize=(7.0, 2.4))
        pos = trace["pos"].to_numpy()
        explored = trace[trace["pos"] <= (taken.min() if len(taken) else np.inf)]
        threshold = explored["threshold"].replace(np.inf, np.nan)
        top = 1.18 * np.nanmax([trace["divergence"].max(), threshold.max(), 1e-3])
        for who, colour in COLOURS.items():
            for start in pos[(trace["source"] == who).to_numpy()]:
                ax.axvspan(start - 0.5, start + 0.5, color=colour, alpha=0.10, lw=0)
        ax.plot(pos, trace["divergence"], "o-", color="0.15", ms=2.5, lw=0.9, label="divergence $d_i$")
        ax.step(explored["pos"], threshold, where="mid", color="#009E73", ls="--", label=r"threshold $\tau_i$")
        ax.set(xlim=(-0.5, pos.max() + 0.5), ylim=(0, top), ylabel="KL(teacher ‖ student) [nats]", xlabel="token")
        ax.set_xticks(pos, [_visible(token) for token in trace["token"]], rotation=90, family="DejaVu Sans Mono", fontsize=6)
        for label, source in zip(ax.get_xticklabels(), trace["source"], strict=True):
            label.set_color(COLOURS[source])
        if len(taken):
            _mark_switch(ax, int(taken.min()), float(trace.loc[trace["pos"] == taken.min(), "divergence"].iloc[0]), top)
        ax.legend(loc="lower right", ncols=2, bbox_to_anchor=(1, 1), borderaxespad=0.2)
    return ax


def cost_growth(times: pd.DataFrame, axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Seconds of a rollout against length, batch and vocabulary, one panel each, both axes logarithmic.

    Args:
        times: columns axis ("max_new_tokens", "batch", "vocab"), value, what, seconds.
    """
    labels = {"max_new_tokens": "tokens written", "batch": "rows", "vocab": "words in the vocabulary"}
    with plt.style.context(STYLE):
        if axes is None:
            _, axes = plt.subplots(1, 3, figsize=(7.0, 2.1), sharey=True)
        for ax, (axis, label) in zip(axes, labels.items(), strict=True):
            some = times[times["axis"] == axis]
            for what, line in some.groupby("what", sort=False):
                colour, marker, name = COSTS[what]
                ax.plot(line["value"], line["seconds"], marker=marker, color=colour, label=name)
            ax.set(xscale="log", yscale="log", xlabel=label)
            ax.set_xticks(some["value"].unique(), [f"{value:,}" for value in some["value"].unique()], minor=False)
            ax.minorticks_off()
        axes[0].set_ylabel("seconds a rollout")
        axes[0].set_yticks([0.05, 0.1, 0.2, 0.5, 1, 2, 5], ["0.05", "0.1", "0.2", "0.5", "1", "2", "5"])
        handles, names = axes[0].get_legend_handles_labels()
        axes[0].figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    return axes


def panels(rows: int, columns: int, height: float, titles: Sequence[str] = ()) -> np.ndarray:
    """Empty axes [rows columns] in our style: a paper's column wide for one panel, its text width for several.

    Args:
        height: of the figure, inches.
        titles: of the panels in the first row; keys of `LOOKS` become their labels.
        columns: 0 gives one panel that says that there is nothing to draw.
    """
    if columns == 0:
        columns, titles = 1, ["no such runs yet"]
    with plt.style.context(STYLE):
        _, axes = plt.subplots(rows, columns, figsize=(3.4 if columns == 1 else 7.0, height), squeeze=False)
        for ax, title in zip(axes[0], titles, strict=False):
            ax.set_title(LOOKS[title][2] if title in LOOKS else title)
    return axes


def over_training(
    table: pd.DataFrame, ax: Axes, y: str, *, x: str = "step", by: str = "method", width: int = 1, legend: int = 0
) -> Axes:
    """Figures 4 and 5: a quantity over training, a line a method or task; with several seeds their mean and its 95 % interval.

    Args:
        table: columns seed, `x`, `y` and `by`.
        by: "method" or "trained_on".
        width: steps averaged into one point. NaN (no row switched) is left out.
        legend: how many columns it has; 0: none.
    """
    table = table.dropna(subset=[y])
    if width > 1:
        table = table.assign(**{x: (table[x] - 1) // width * width + width / 2})
    with plt.style.context(STYLE):
        for name, (colour, marker, label) in LOOKS.items():
            by_seed = table[table[by] == name].groupby([x, "seed"])[y].mean().unstack()
            if by_seed.empty:
                continue
            found = pd.DataFrame([over_seeds(row.dropna()) for _, row in by_seed.iterrows()], index=by_seed.index)
            ax.plot(found["mean"], color=colour, marker=marker, label=label, zorder=3 if name == "adaswitch" else 2)
            ax.fill_between(found.index, found.low, found.high, color=colour, alpha=0.18, lw=0)
        ax.set_xlabel("optimiser step")
        ax.margins(x=0.02)
        if legend and ax.lines:
            ax.legend(ncols=legend)
    return ax


def around_the_switch(traces: pd.DataFrame, ax: Axes, steps: Sequence[int], reach: int = 8) -> Axes:
    """Figure 4b, along the sequence: the mean divergence by position relative to the switch, a line an examination.

    Args:
        traces: columns step, seed, example, pos, divergence, switch_index.
        steps: which examinations to show.
        reach: tokens before and after the switch.
    """
    traces = traces[traces.switch_index >= 0].assign(offset=lambda t: t.pos - t.switch_index)
    traces = traces[traces.offset.abs() <= reach]
    with plt.style.context(STYLE):
        for i, step in enumerate(steps):
            line = traces[traces.step == step].groupby("offset").divergence.mean()
            ax.plot(
                line.index,
                line.values,
                color=plt.get_cmap("viridis")(0.9 * i / max(1, len(steps) - 1)),
                marker="o",
                label=f"step {step}",
            )
        if ax.lines:
            ax.legend(loc="upper right", handlelength=1.2)
        ax.axvline(0, color="0.6", lw=0.7, ls=":")
        ax.set(xlabel="token, counted from the switch", ylabel="KL(teacher ‖ student) [nats]", ylim=(0, None))
    return ax


def bars(table: pd.DataFrame, ax: Axes, y: str = "value") -> Axes:
    """One bar a method, with its 95 % interval over seeds and a dot a seed.

    Args:
        table: columns method, seed and `y`.
    """
    with plt.style.context(STYLE):
        names = [name for name in LOOKS if name in set(table.method)]
        for i, name in enumerate(names):
            values = table.loc[table.method == name, y]
            found = over_seeds(values)
            ax.bar(i, found.mean, color=LOOKS[name][0], width=0.7, alpha=0.85)
            ax.plot([i] * len(values), values, ".", color="black", ms=2.5)
            if found.n > 1:
                ax.errorbar(
                    i, found.mean, [[found.mean - found.low], [found.high - found.mean]], color="black", lw=0.8, capsize=1.5
                )
        ax.set_xticks(range(len(names)), [LOOKS[name][2] for name in names], rotation=45, ha="right", rotation_mode="anchor")
        ax.set_ylim(0, None)
    return ax


def by_setting(table: pd.DataFrame, ax: Axes, x: str, y: str = "value", legend: int = 0) -> Axes:
    """Figure 3: a score against a setting that has names, a line of marks a method, with 95 % intervals over seeds.

    Args:
        table: columns method, seed, `x` and `y`; the names are drawn in the order in which they come.
        legend: how many columns it has; 0: none.
    """
    names = list(dict.fromkeys(table[x]))
    methods = [name for name in LOOKS if name in set(table.method)]
    with plt.style.context(STYLE):
        for i, method in enumerate(methods):
            colour, marker, label = LOOKS[method]
            place = np.arange(len(names)) + 0.12 * (i - (len(methods) - 1) / 2)
            found = pd.DataFrame([over_seeds(table.loc[(table.method == method) & (table[x] == name), y]) for name in names])
            ax.plot(place, found["mean"], color=colour, marker=marker, lw=0.7, label=label)
            ax.vlines(place, found.low, found.high, color=colour, lw=0.9)
        ax.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
        ax.margins(x=0.08)
        if legend:
            ax.legend(ncols=legend)
    return ax


def heatmap(table: pd.DataFrame, ax: Axes, x: str, y: str, value: str = "value") -> Axes:
    """A score by two settings, its mean over seeds written into each cell; grey where nothing was run.

    Args:
        table: columns `x`, `y` and `value`, a row a run.
    """
    cells = table.pivot_table(index=y, columns=x, values=value, aggfunc="mean")
    if cells.empty:
        ax.set_title("no such runs yet")
        return ax
    middle = (np.nanmin(cells) + np.nanmax(cells)) / 2
    with plt.style.context(STYLE):
        ax.set_facecolor("0.9")
        ax.imshow(cells, cmap="cividis", aspect="auto", origin="lower")
        for (row, column), score in np.ndenumerate(cells.to_numpy()):
            if not np.isnan(score):
                ax.text(column, row, f"{score:.3f}", ha="center", va="center", color="white" if score <= middle else "black")
        ax.set_xticks(range(cells.shape[1]), [f"{name:g}" for name in cells.columns])
        ax.set_yticks(range(cells.shape[0]), [f"{name:g}" for name in cells.index])
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    return ax


def save(ax: Axes, folder: Path, name: str) -> Figure:
    """Write the figure of `ax` as `<name>.png` and `<name>.pdf`, the same bytes for the same figure, and return it closed."""
    with plt.style.context(STYLE):
        ax.figure.savefig(folder / f"{name}.png", metadata={"Software": None})
        ax.figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    plt.close(ax.figure)  # or a notebook would show it twice
    return ax.figure


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
    ax.axvline(position, ymin=divergence / top + 0.04, ymax=0.86, color=COLOURS["teacher"], lw=0.8, ls=":")
    ax.plot(position, divergence, "o", mfc="none", mec=COLOURS["teacher"], mew=1.2, ms=7)
    right = position < ax.get_xlim()[1] * 0.6
    label = f"$d_{{{position}}} > \\tau_{{{position}}}$: the teacher takes over"
    place = {"ha": "left" if right else "right", "va": "bottom", "fontsize": 6.5, "color": COLOURS["teacher"]}
    ax.text(position, 0.87 * top, label, **place)


def _share(trace: pd.DataFrame, limit: int | None) -> str:
    cut = ", the limit" if len(trace) == limit else ""
    return f"{len(trace)} tokens{cut}; {(trace['source'] == 'teacher').mean():.0%} by the teacher"


def _tint(who: str) -> str:
    return {"student": "#BBDDF2", "teacher": "#F8CDB0"}[who]


def _visible(token: str) -> str:
    """The token with white space that can be seen, and no mathtext."""
    return token.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "·").replace("$", r"\$") or "∅"
