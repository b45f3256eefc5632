"""A text of one's own, written token by token in the notebook. Needs ipywidgets, and a kernel that writes. No torch."""

from __future__ import annotations

import html
from typing import Any

import pandas as pd

from adaswitch_lib.report.plot_style import COLOURS


def live(writer: Any) -> Any:
    """Prompt, policy, temperature, seed and a button: tokens appear as they are written, with d_i and τ_i below them.

    Args:
        writer: an `experiments.demo.Writer`.

    Returns:
        An ipywidgets box.
    """
    import ipywidgets as widgets

    wide = widgets.Layout(width="95%", height="6em")
    prompt = widgets.Textarea(writer.prompt, description="prompt", layout=wide)
    policy = widgets.Dropdown(options=list(writer.policies), value="AdaSwitch", description="policy")
    temperature = widgets.BoundedFloatText(writer.temperature, min=0, max=2, step=0.1, description="temperature")
    seed = widgets.BoundedIntText(0, min=0, max=10**6, description="seed")
    for number in (temperature, seed):
        number.layout.width, number.style.description_width = "12em", "6.5em"
    button = widgets.Button(description="Write", button_style="primary")
    text = widgets.HTML()

    def write(_: Any) -> None:
        button.disabled, text.value = True, ""
        try:
            table = writer([prompt.value], policy.value, temperature.value, seed.value, show=lambda part: _draw(text, part))
            text.value += f"<p>{_summary(table)}</p>"
            if unknown := writer.unknown(prompt.value):
                text.value += f"<p>Not in the vocabulary of these models: {html.escape(', '.join(unknown))}.</p>"
        except ValueError as error:
            text.value = f"<p>{html.escape(str(error))}</p>"
        finally:
            button.disabled = False

    button.on_click(write)
    return widgets.VBox([prompt, widgets.HBox([policy, temperature, seed, button]), text])


def _draw(text: Any, table: pd.DataFrame) -> None:
    text.value = f'<div style="display:flex;flex-wrap:wrap;row-gap:.6em">{"".join(map(_token, table.itertuples()))}</div>'


def _token(row: Any) -> str:
    threshold = f"τ {row.threshold:.2f}" if 0 <= row.threshold < float("inf") else "&nbsp;"
    word = html.escape(row.token).replace("\n", "⏎").strip(" ") or "&nbsp;"
    line = f"4px {'double' if row.source == 'teacher' else 'solid'} {COLOURS[row.source]}"
    return (
        f'<span title="{row.source}" style="border-top:{line};padding:0 .3em;line-height:1.3;text-align:center">{word}<br>'
        f'<span style="font-size:75%">d {row.divergence:.2f}<br>{threshold}</span></span>'
    )


def _summary(table: pd.DataFrame) -> str:
    taken = table.pos[table.source == "teacher"]
    if taken.empty:
        return f"The student writes all {len(table)} tokens."
    return f"The teacher writes {len(taken)} of {len(table)} tokens, the first of them token {taken.min()}."
