"""All figures of a preset's results at once, with the main table and the claims; the notebooks say what each is about."""

from __future__ import annotations

import inspect

from adaswitch_lib.experiments.paths import figures_dir, results_dir
from adaswitch_lib.report import claims, figures, tables

FIGURES = [name for name in figures.__all__ if [*inspect.signature(getattr(figures, name)).parameters] == ["results"]]


def draw(preset: str) -> None:
    """Into `figures/<preset>` and `results/<preset>`; prints where."""
    results, folder = results_dir(preset), figures_dir(preset)
    caption = f"Test scores, mean ± half of the 95 % interval over seeds, preset {preset}"
    tables.save(tables.table_1(results), results, "table_1", caption)
    claims.save(results)
    for name in FIGURES:
        figures.save(getattr(figures, name)(results), folder)
    print(f"{len(FIGURES)} figures are in {folder}, the main table in {results / 'tables'}, claims in {results / 'claims.md'}.")
