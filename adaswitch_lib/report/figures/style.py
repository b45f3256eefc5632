"""How a figure is made: a function draws it in our style, `save` writes it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import ParamSpec

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from adaswitch_lib.report.display import Html, image
from adaswitch_lib.report.plot_style import STYLE

P = ParamSpec("P")


def figure(draw: Callable[P, Axes]) -> Callable[P, Axes]:
    """Of a function that draws one figure and returns its first axes: in our style, under the function's name, with the first
    paragraph of its docstring as alternative text."""

    @wraps(draw)
    def styled(*args: P.args, **settings: P.kwargs) -> Axes:
        with plt.style.context(STYLE):
            ax = draw(*args, **settings)
        ax.figure.name, ax.figure.alt = draw.__name__, " ".join(inspect.getdoc(draw).split("\n\n")[0].split())
        return ax

    return styled


def save(ax: Axes, folder: Path) -> Html:
    """Write the figure of `ax` into `folder` as `<name>.png` and `<name>.pdf`; returns it, to be shown."""
    for kind in ("png", "pdf"):
        (folder / f"{ax.figure.name}.{kind}").write_bytes(_drawn(ax, kind))
    return show(ax)


def show(ax: Axes) -> Html:
    """The figure of `ax` with its alternative text, without a file."""
    plt.close(ax.figure)  # or a notebook would show it twice
    return image(_drawn(ax, "png"), ax.figure.alt, ax.figure.get_figwidth())


def _drawn(ax: Axes, kind: str) -> bytes:
    """The same bytes for the same figure."""
    metadata = {"png": {"Software": None, "Description": ax.figure.alt}, "pdf": {"CreationDate": None}}
    buffer = BytesIO()
    with plt.style.context(STYLE):
        ax.figure.savefig(buffer, format=kind, metadata=metadata[kind])
    return buffer.getvalue()


def panels(rows: int, columns: int, height: float, titles: Sequence[str] = ()) -> np.ndarray:
    """Empty axes [rows columns]: a paper's column wide for one panel, its text width for several.

    Args:
        height: of the figure, inches.
        titles: of the panels in the first row.
        columns: 0 gives one panel that says that there is nothing to draw.
    """
    if rows * columns == 0:
        rows, columns, titles = 1, 1, ["no such runs"]
    _, axes = plt.subplots(rows, columns, figsize=(3.4 if columns == 1 else 7.0, height), squeeze=False)
    for ax, title in zip(axes[0], titles, strict=False):
        ax.set_title(title)
    return axes


def centred(axes: Sequence[Axes]) -> None:
    """The same x-axis on all, with zero in the middle."""
    widest = max((abs(x) for ax in axes for x in ax.get_xlim()), default=1)
    for ax in axes:
        ax.set_xlim(-widest, widest)


def zero_line(ax: Axes) -> None:
    ax.axhline(0, color="0.6", lw=0.7, ls=":", zorder=0)
