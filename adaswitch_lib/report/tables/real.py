"""Tables of the real LLM on real dialogues."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from adaswitch_lib.experiments.records import reference_items, with_settings
from adaswitch_lib.experiments.table_files import read_table_file
from adaswitch_lib.report.plot_style import in_order
from adaswitch_lib.report.scores import final
from adaswitch_lib.report.statistics import paired
from adaswitch_lib.report.tables.form import effects, in_plain_words


def answers(results: Path, seed: int) -> pd.DataFrame:
    """The summaries of the test dialogues by the teacher, the initial student and the students of one seed, with their ROUGE-L."""
    items = with_settings(results, "items").query("seed == @seed")
    references = reference_items(results).query("seed in (-1, @seed)")
    both = pd.concat([references, items]).query("task == 'dialogsum'")
    return both.set_index("method").loc[in_order(both.method)].reset_index()


def summaries(results: Path, seed: int, example: int) -> pd.DataFrame:
    """One test dialogue's summaries: who wrote it, ROUGE-L, and the text."""
    rows = answers(results, seed).query("example == @example")
    return in_plain_words(rows[["method", "rouge_l", "answer"]]).rename(columns={"rouge_l": "ROUGE-L", "answer": "summary"})


def by_length(results: Path, seed: int, prompts: Sequence[str], words: int = 140) -> pd.DataFrame:
    """Mean ROUGE-L on shorter and on longer test dialogues. Students learned from dialogues of up to about 140 words.

    Args:
        prompts: of the test rows, in their order.
    """
    rows = answers(results, seed)
    long = rows.example.map(lambda example: len(prompts[example].split()) > words)
    table = rows.assign(length=long.map({False: f"up to {words} words", True: "longer"}))
    table = table.pivot_table("rouge_l", "method", "length", sort=False).assign(all=rows.groupby("method").rouge_l.mean())
    return in_plain_words(table.rename_axis(None, axis=1))


def by_seed(results: Path) -> pd.DataFrame:
    """Test ROUGE-L of each method, a column a seed."""
    wide = final(with_settings(results, "metrics")).pivot_table(index="method", columns="seed", values="value")
    return in_plain_words(wide.loc[in_order(wide.index)].add_prefix("seed ").rename_axis(None, axis=1))


def by_dialogue(results: Path, seed: int) -> pd.DataFrame:
    """AdaSwitch's student of one seed minus each other, dialogue by dialogue. Intervals speak of these students alone."""
    items = with_settings(results, "items").query("seed == @seed and task == 'dialogsum'")
    wide = items.pivot(index="example", columns="method", values="rouge_l")
    others = in_order(set(wide) - {"adaswitch"})
    return effects(pd.DataFrame([{"against": name, **paired(wide.adaswitch, wide[name])._asdict()} for name in others]))


def rates(results: Path) -> pd.DataFrame:
    """ROUGE-L of two learning rates, one seed a method: validation after each evaluation, and the test."""
    rows = with_settings(results, "metrics", "rates").query("metric == 'rouge_l'")
    at = rows.step.map("after step {}".format).mask(rows.split == "test", "test")
    wide = rows.assign(at=at).pivot_table("value", ["method", "learning_rate"], "at", sort=False)
    return in_plain_words(wide.rename_axis(None, axis=1))


def other_tasks(results: Path) -> pd.DataFrame:
    """The pair before distillation, on DialogSum and on two tasks that neither model was trained on: texts that switch, those that
    switch within 56 tokens (the length of DialogSum's summaries here), tokens before the switch, length, and KL at the switch."""
    tokens = read_table_file(results / "other_tasks.parquet")
    texts = tokens.groupby(["task", "example"]).agg(switch=("switch_index", "first"), length=("pos", "size"))
    before = texts.switch.where(texts.switch >= 0)
    texts = texts.assign(switch_rate=texts.switch >= 0, early=texts.switch.between(0, 55), switch_position=before)
    table = texts.groupby("task")[["switch_rate", "early", "switch_position", "length"]].mean()
    at_switch = tokens[tokens.pos == tokens.switch_index].groupby("task").divergence.mean()
    table = table.assign(switch_divergence=at_switch).rename(columns={"early": "within 56 tokens"})
    return in_plain_words(table.loc[in_order(table.index)])
