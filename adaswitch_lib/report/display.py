"""What notebooks and pages show: figures with alternative text, tables that are folded where they are long, coloured text."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable

import pandas as pd

LONG = 10
"""Rows above which a table is folded."""


class Html(str):
    """Text that notebooks show as HTML."""

    def _repr_html_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"<HTML of {len(self)} characters>"


class Markdown(str):
    """Text that notebooks show as Markdown."""

    def _repr_markdown_(self) -> str:
        return str(self)


def image(png: bytes, alt: str, inches: float) -> Html:
    """A picture of some width with alternative text, which JupyterLab drops from images that are not HTML."""
    style = f"width:{inches:.1f}in;max-width:100%;background:white"
    return Html(f'<img alt="{html.escape(alt)}" style="{style}" src="data:image/png;base64,{base64.b64encode(png).decode()}">')


def table(frame: pd.DataFrame, caption: str = "") -> Html:
    """A table without its index, whole cells, numbers with three digits; more than ten rows are folded."""
    sides = ["right" if pd.api.types.is_numeric_dtype(frame[name]) else "left" for name in frame]
    lines = [_line("th", frame.columns, sides), *(_line("td", row, sides) for row in cells(frame).itertuples(index=False))]
    rows = f"<table>{''.join(lines)}</table>"
    shown = f"<p>{html.escape(caption)}</p>{rows}" if caption else rows
    if len(frame) <= LONG:
        return Html(shown)
    return Html(f"<details><summary>{html.escape(caption) or 'Table'} ({len(frame)} rows)</summary>{rows}</details>")


def _line(tag: str, texts: Iterable[str], sides: Iterable[str]) -> str:
    cells = (f'<{tag} style="text-align:{side}">{html.escape(str(text))}</{tag}>' for text, side in zip(texts, sides, strict=True))
    return f"<tr>{''.join(cells)}</tr>"


def cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells as text: numbers with three digits, a dash where there is none."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return "–" if value != value else f"{value:.3f}".replace("-", "−")
        return str(value)

    return frame.astype(object).map(text)
