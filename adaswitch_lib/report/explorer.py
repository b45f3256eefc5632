"""To play with, on any page: who writes the sequence under another rule, and kept texts side by side.

Both are HTML with their data and a small script inside: they need neither kernel nor network, and work in JupyterLab, Colab,
an exported notebook and the documentation. No torch.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adaswitch_lib.experiments.tasks import TASKS
from adaswitch_lib.report.display import Html
from adaswitch_lib.report.plot_style import COLOURS, floor_label, label
from adaswitch_lib.report.scores import grid

SCRIPT = Path(__file__).with_suffix(".js")
DARK = {"student": "#56B4E9", "teacher": "#E69F00"}
"""The writers' colours on a dark page: the lighter blue and orange of the Okabe-Ito palette."""


def explore(
    trace: pd.DataFrame,
    prompt: str = "",
    *,
    multiplier: float = 3.0,
    window: int = 8,
    min_history: int = 4,
    floor: float = 0.0,
) -> Html:
    """Who writes the sequence? Sliders over the rule, on a text that the student wrote alone.

    Every token is shown, on the colour of its writer, with its divergence d_i as a bar and the threshold τ_i as a line. The
    student's text does not depend on the rule, so that the rule can be tried on it again and again.

    Args:
        trace: per-token table of one on-policy rollout (`Rollout.to_frame`): columns pos, token, divergence [nats].
        prompt: what the text completes; shown above it.
        multiplier, window, min_history, floor: the rule to begin with, as in `SwitchRule`.

    Raises:
        ValueError: if the table is not one whole text of the student, or the rule is out of range.
    """
    trace = _one_text(trace)
    if not 0 < multiplier < math.inf or not 0 <= floor < math.inf:
        raise ValueError(f"multiplier (K) must be a finite number above 0, floor one of 0 or more; got {multiplier} and {floor}.")
    if not all(isinstance(value, Integral) for value in (window, min_history)) or window < 1 or min_history < 0:
        raise ValueError(f"window (L) and min_history must be whole numbers, from 1 and 0 on; got {window} and {min_history}.")
    rule = {"multiplier": multiplier, "window": int(window), "min_history": int(min_history), "floor": floor}
    shown = {"tokens": trace.token.tolist(), "d": trace.divergence.astype(float).round(6).tolist(), "rule": rule}
    space = "" if trace.token.str.startswith(" ").any() else " "  # tokens that bring none are words
    return _page("explore", shown, prompt, space.join(trace.token))


def compare(traces: pd.DataFrame, prompts: Sequence[str] = (), note: str = "") -> Html:
    """Two kept texts side by side, each picked by policy, or by method and step: the same prompt before and after.

    Args:
        traces: per-token tables of several rollouts on the same prompts: columns example, pos, token, source, divergence
            [nats], and policy, or step and method (or label, its name on figures). The left side begins with the first of
            each, the right with the last policy or step. A thousand tokens take 7 kB of the page, so choose what is shown.
        prompts: what the texts complete, by example.
        note: a line below the texts.

    Raises:
        ValueError: if columns are missing, or a choice leaves more than one text.
    """
    names = {"policy": "policy", "label": "method", "method": "method", "step": "step"}
    by = {names[column]: column for column in ("policy", "method", "label", "step") if column in traces}
    _need(traces, "example", "pos", "token", "source", "divergence")
    if not by:
        raise ValueError("compare needs a column that tells the texts apart: policy, or method and step.")
    if traces.duplicated([*by.values(), "example", "pos"]).any():
        raise ValueError(f"several texts have the same {', '.join(by)} and example: keep one task, seed and variant of them.")
    if not np.isfinite(traces.divergence).all():
        raise ValueError("compare needs a divergence at every token: generate with record_divergence=True.")
    codes, vocabulary = pd.factorize(traces.token)
    hundredths = (100 * traces.divergence).round().astype(int)
    tokens = traces.assign(code=codes, hundredths=hundredths, teacher=(traces.source == "teacher").map({True: "1", False: "0"}))
    texts = [
        {
            "key": [str(value) for value in key[:-1]],
            "example": int(key[-1]),
            "ids": text.code.tolist(),
            "d": text.hundredths.tolist(),
            "teacher": "".join(text.teacher),
        }
        for key, text in tokens.sort_values("pos", kind="stable").groupby([*by.values(), "example"], sort=False)
    ]
    shown = {"by": list(by), "texts": texts, "vocabulary": vocabulary.tolist(), "prompts": list(prompts), "note": note}
    return _page("compare", shown)


def over_training(results: Path, task: str, examples: int = 4, steps: int = 5) -> Html:
    """`compare` of the validation texts that a preset has kept of its first seed: by method, from the first step to the last.

    Args:
        results: the preset's folder.
        task: one of the micro tasks.
        examples, steps: how many prompts and evaluations to choose from.
    """
    kept = grid(results, "traces").query("trained_on == @task and example < @examples")
    floor, seed = kept.floor.min(), kept.seed.min()
    kept = kept[(kept.seed == seed) & ~(kept.floor > floor)]
    kept = kept.sort_values("method", key=lambda names: names != "adaswitch", kind="stable")
    every = sorted(kept.step.unique())
    chosen = {every[round(i * (len(every) - 1) / (steps - 1))] for i in range(steps)}
    prompts = TASKS[task].load("validation", examples, 0)["prompt"]
    note = f"{label(task).capitalize()}, validation prompts, seed {seed}; AdaSwitch with {floor_label(floor)}. "
    note += "By other methods the student writes alone."
    return compare(kept[kept.step.isin(chosen)].sort_values("step", kind="stable"), prompts, note)


def _one_text(trace: pd.DataFrame) -> pd.DataFrame:
    """The table in the order of its tokens, if it is one text that the student wrote alone."""
    _need(trace, "pos", "token", "divergence")
    trace = trace.sort_values("pos")
    if trace.empty or trace.pos.tolist() != list(range(len(trace))):
        raise ValueError("explore needs the tokens 0, 1, 2, … of one text: choose one policy and one example of the table.")
    if "source" in trace and (trace.source != "student").any():
        raise ValueError("explore needs a text that the student wrote alone: choose an on-policy rollout.")
    if not (np.isfinite(trace.divergence) & (trace.divergence >= 0)).all():
        raise ValueError("explore needs a divergence of 0 nats or more at every token: generate with record_divergence=True.")
    return trace


def _need(table: pd.DataFrame, *columns: str) -> None:
    if missing := [name for name in columns if name not in table]:
        raise ValueError(f"the table has no column {', '.join(missing)}: it needs those of `Rollout.to_frame`.")


def _page(view: str, data: dict[str, Any], prompt: str = "", text: str = "") -> Html:
    """The data in an attribute, which every notebook format keeps, and the script that draws them.

    Where scripts are not run (on GitHub, in a notebook that is not trusted), prompt and text stay readable.
    """
    shown = html.escape(json.dumps({"view": view} | data, ensure_ascii=False, separators=(",", ":")), quote=False)
    shown = shown.replace("'", "&#39;")  # the attribute stands in single quotes: JSON has many double ones
    above = f'<div class="prompt">{html.escape(prompt)}</div>' if prompt else ""
    plain = f"<p>{html.escape(text)}</p>" * bool(text) + "<p>To play with this, run the cell, or let the page run scripts.</p>"
    return Html(
        f"<div class=\"adaswitch\" data-shown='{shown}'><style>{_STYLE}</style>{above}{plain}</div>"
        f"<script>(() => {{\n{SCRIPT.read_text(encoding='utf-8')}}})();</script>"
    )


def _colours(colours: dict[str, str]) -> str:
    return " ".join(f"--{who}: {colour};" for who, colour in colours.items())


_STYLE = (
    f"""
.adaswitch {{ {_colours(COLOURS)} max-width: 62em; line-height: 1.4; }}
:is([data-jp-theme-light=false], [data-theme=dark], [theme=dark], .vscode-dark) .adaswitch {{
  {_colours(DARK)} color: #EEE; color-scheme: dark; }}
[data-theme=dark] .text_html:has(> .adaswitch) {{ background: none !important; }} /* the site's theme lights outputs up */
"""
    + """
.adaswitch .beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(max(13em, 34%), 1fr)); gap: .4em 1.2em; }
.adaswitch label { display: block; margin: .2em 0; }
.adaswitch input { display: block; width: 100%; margin: .2em 0; accent-color: var(--student); }
.adaswitch :is(select, button) { font: inherit; max-width: 100%; }
.adaswitch :is(input, select, button):focus-visible { outline: 2px solid; outline-offset: 2px; }
.adaswitch .say { font-weight: bold; min-height: 2.8em; margin: .5em 0; }
.adaswitch .remark { font-size: .875em; margin: .5em 0; }
.adaswitch .prompt { white-space: pre-wrap; border-left: 3px solid; padding-left: .6em; margin: .5em 0; }
.adaswitch .text { display: flex; flex-wrap: wrap; row-gap: .5em; margin: .5em 0; }
.adaswitch .token { position: relative; min-width: 1.3em; font: .875em ui-monospace, Menlo, Consolas, monospace; }
.adaswitch .token, .adaswitch .key { --writer: var(--student); }
.adaswitch .teacher { --writer: var(--teacher); }
.adaswitch .token > * { display: block; font-style: normal; }
.adaswitch .index { height: 1.5em; font-size: .8em; white-space: nowrap; }
.adaswitch .word { white-space: pre; padding: 0 2px; margin-right: 1px; text-align: center; border-top: 4px solid var(--writer);
  background: color-mix(in srgb, var(--writer) 22%, transparent); }
.adaswitch .plot { position: relative; height: 3em; border-bottom: 1px solid; overflow: hidden; }
.adaswitch .plot > * { position: absolute; box-sizing: border-box; }
.adaswitch .teacher .word { border-top-style: double; }
.adaswitch .bar { left: 20%; right: 20%; bottom: 0; background: var(--writer); }
.adaswitch .tau { inset: 0; border-bottom: 2px solid; }
.adaswitch .rise { inset: 0; border-left: 2px solid; transform-origin: bottom; }
.adaswitch .teacher:not(.switch) :is(.tau, .rise) { border-width: 1px; }
.adaswitch .above .tau { border-bottom-style: dashed; }
.adaswitch .early :is(.tau, .rise) { display: none; }
.adaswitch .early .plot { background: repeating-linear-gradient(135deg, transparent 0 5px, currentColor 5px 6px); }
.adaswitch .switch { border-left: 3px solid; }
.adaswitch .switch .index { font-weight: bold; }
.adaswitch .looked { outline: 1px solid; }
.adaswitch .legend { display: flex; flex-wrap: wrap; gap: 0 1.2em; }
.adaswitch .key { display: inline-block; width: 1.2em; height: .5em; border-top: 4px solid var(--writer);
  background: color-mix(in srgb, var(--writer) 22%, transparent); }
.adaswitch .key.teacher { border-top-style: double; }
"""
)
