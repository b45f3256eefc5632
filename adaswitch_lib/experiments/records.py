"""Results on disk: written whole or not at all, each beside its provenance. No torch.

A preset's results are five tables, keyed by the column `run`:

    runs.csv        one row a run: its settings, versions, commit, threads, seconds
    metrics.csv     long form: run, step, task, split, metric, value
    switches.csv    one row a step: loss, switch rate and position, divergence at the switch, teacher's share, …
    items.parquet   one row a test item: its scores and the answer
    traces.parquet  one row a token of the rollouts that every examination keeps

and, by `references`, references.parquet: the items of the teacher and of students before distillation; chance.csv: what
the switching rule catches, and what its positions catch in other rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

PACKAGES = ("torch", "transformers", "datasets", "numpy", "pandas", "matplotlib")


def write_table(frame: pd.DataFrame, file: Path, **settings: Any) -> Path:
    """Write a table as CSV or Parquet, by the file's ending, and beside it `<file>.provenance.json`.

    Args:
        frame: one row an observation.
        file: where to; an older one is replaced at once, so that no reader sees half a file. One with the same content and
            settings is left as it is, with the provenance of whoever made it first.
        settings: what was run: models, seeds, threads, rule, …

    Raises:
        ValueError: for another ending.
    """
    if file.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{file.name}: tables are written as .csv or .parquet.")
    temporary = file.with_name(file.name + ".tmp")
    if file.suffix == ".csv":
        frame.to_csv(temporary, index=False, float_format="%.5g")
    else:
        frame.to_parquet(temporary, index=False, compression="zstd")
    provenance = file.with_name(file.name + ".provenance.json")
    same = file.is_file() and provenance.is_file() and file.read_bytes() == temporary.read_bytes()
    if same and json.loads(provenance.read_text())["settings"] == json.loads(json.dumps(settings, default=str)):
        temporary.unlink()
        return file
    provenance.with_name(provenance.name + ".tmp").write_text(json.dumps(_provenance(settings), indent=2, default=str) + "\n")
    os.replace(provenance.with_name(provenance.name + ".tmp"), provenance)
    os.replace(temporary, file)
    return file


TABLES = {
    "metrics": "metrics.csv",
    "switches": "switches.csv",
    "items": "items.parquet",
    "traces": "traces.parquet",
    "runs": "runs.csv",  # last: a run that is in it is in all of them
}


def read_table(results: Path, name: str, runs: Sequence[str] | None = None) -> pd.DataFrame:
    """One of a preset's tables, by its name in `TABLES`; of some runs, or of all.

    Raises:
        FileNotFoundError: if there are no results yet; the message says how to make them.
    """
    file = results / TABLES[name]
    if not file.is_file():
        raise FileNotFoundError(f"no {file}: make it with `python -m adaswitch_lib run --preset {results.name}`.")
    if file.suffix == ".parquet":
        return pd.read_parquet(file, filters=None if runs is None else [("run", "in", list(runs) or [""])])  # none has no name
    table = pd.read_csv(file, dtype=dict.fromkeys(("run", "teacher", "commit"), str))  # hexadecimal, which may look like a number
    return table if runs is None else table[table.run.isin(runs)]


def with_settings(results: Path, name: str, *studies: str) -> pd.DataFrame:
    """A table with the columns method, label, seed and trained_on (the task) of its runs.

    Args:
        studies: none: the runs of the grid. Else those of the studies and the grid's runs that they are paired with (same
            task, method and seed), with all columns of `runs.csv`; where a name is in both tables, that of `runs.csv`
            ends in `_of_run`.

    Raises:
        ValueError: if the grid was made by two versions of the preset, so that its methods cannot be compared.
    """
    runs = read_table(results, "runs").rename(columns={"task": "trained_on"})
    runs["variant"] = runs.variant.astype(object).fillna("")  # read as numbers where all are empty
    grid = runs[runs.variant == ""]
    _same(results, grid.groupby("trained_on"), SAME_IN_A_GRID)
    _same(results, grid.groupby(["trained_on", "method"]), [name for name in grid if name.startswith(SAME_IN_A_METHOD)])
    if not studies:
        runs = grid[["run", "method", "label", "seed", "trained_on"]]
    else:  # a run whose partner is of another version of the preset has none; one with a seed of its own needs none
        others = runs[runs.variant.str.startswith(tuple(f"{study}." for study in studies))]
        others = others[others.paired_with.isin(grid.run) | ~others.seed.isin(grid.seed)]
        runs = pd.concat([grid[grid.run.isin(others.paired_with)], others])
    return read_table(results, name, runs.run).merge(runs, on="run", suffixes=("", "_of_run"))


def with_rules(results: Path, name: str) -> pd.DataFrame:
    """A table of AdaSwitch's runs in the grid and in the study of floors (variant "floors.0.0" and others), with the columns rule.*
    of their runs beside those of `with_settings`."""
    rules = read_table(results, "runs").filter(regex=r"^run$|^rule\.")
    grid = with_settings(results, name).merge(rules, on="run").assign(variant="")
    both = pd.concat([grid, with_settings(results, name, "floors").query("variant != ''")])
    return both[both.method == "adaswitch"]


def reference_scores(results: Path) -> pd.DataFrame:
    """Mean test scores of the teacher and of the students before distillation: columns method, seed, task, split, metric, value.
    Empty where they were not examined."""
    file = results / "references.parquet"
    if not file.is_file():
        return pd.DataFrame(columns=["method", "seed", "task", "split", "metric", "value"])
    items = pd.read_parquet(file).drop(columns=["example", "answer", "of", "trained_on"])
    means = items.groupby(["method", "seed", "task"]).mean(numeric_only=True)
    return means.stack().rename_axis([*means.index.names, "metric"]).reset_index(name="value").assign(split="test")


SAME_IN_A_GRID = (
    "teacher start.steps start.num_rows start.learning_rate start.size.source start.size.layers num_prompts steps batch_size "
    "eval_every validation_rows test_rows max_prompt_tokens max_new_tokens"
).split()
"""Settings in which runs of one task must agree."""

SAME_IN_A_METHOD = ("learning_rate", "rule.", "top_k", "initial", "decay", "fraction", "loss", "divergence")
"""Beginnings of the names of settings in which runs of one task and method must agree, whatever their seed."""


def _same(results: Path, groups: Any, settings: Sequence[str]) -> None:
    for name, some in groups:
        if mixed := [column for column in settings if column in some and some[column].nunique(dropna=False) > 1]:
            raise ValueError(
                f"runs of {name} in {results} differ in {', '.join(mixed)}: some are of an older preset; "
                f"`python -m adaswitch_lib run --preset {results.name}` makes them again."
            )


def finished(results: Path) -> set[str]:
    """Ids of the runs that are done."""
    return set(read_table(results, "runs").run) if (results / TABLES["runs"]).is_file() else set()


def add_run(results: Path, run: str, tables: dict[str, pd.DataFrame]) -> None:
    """Add the rows of one run to the preset's tables; several processes may do so at once.

    They replace those of an older run of the same name: of another version of the preset, or of a try that was killed
    between two tables.
    """
    with FileLock(results / "work" / "tables.lock"):
        for name, file in TABLES.items():
            new = tables[name].copy()
            new.insert(0, "run", run)
            if (results / file).is_file():
                old = read_table(results, name)
                same_name = old.run.str.rsplit("-", n=1).str[0] == run.rsplit("-", 1)[0]
                new = pd.concat([old[~same_name], new]).sort_values("run", kind="stable")
            write_table(new, results / file, preset=results.name)


def digest(settings: Any) -> str:
    """Eight hexadecimal digits that change with any of the settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def versions() -> dict[str, str | None]:
    """Commit and packages that a run is made with, as columns of `runs.csv`."""
    return {"commit": COMMIT, "python": platform.python_version()} | {name: _version(name) for name in PACKAGES[:2]}


def _provenance(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "settings": settings,
        "commit": COMMIT,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _commit() -> str | None:
    """The commit this package runs from, with a + if the package differs from it; None outside a checkout."""
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)  # it may be installed within somebody else's checkout
        commit = _git("describe", "--always", "--abbrev=12", "--exclude=*")
        return commit + "+" * bool(_git("status", "--porcelain", "--", "."))  # results grow while runs are made
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*command: str) -> str:
    return subprocess.run(["git", *command], cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


COMMIT = _commit()
"""Of the code that this process has loaded, not of what the checkout holds when it ends."""
