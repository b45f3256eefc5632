"""The results of a preset, as tables. No torch.

Five tables, keyed by the column `run`:

    runs.csv          one row a run: its settings, versions, commit, threads, seconds
    metrics.parquet   long form: run, step, task, split, metric, value
    switches.parquet  one row a step: loss, switch rate and position, divergence at the switch, teacher's share, …
    items.parquet     one row a test item: its scores and the answer
    traces.parquet    one row a token of the rollouts that every evaluation keeps

A run that ends writes a folder of its own, `runs/<run>/`, however many there are. `read_table` puts them together with the kept
tables; `collect` writes them into the kept tables. Beside these, by `reference_scores`, reference_scores.parquet has the test
items of the teacher and of initial students, and chance.csv what the switching rule catches, and what its positions catch in
other rows.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adaswitch_lib.experiments import sealed
from adaswitch_lib.experiments.locks import locked
from adaswitch_lib.experiments.table_files import (
    DamagedFile,
    digest,
    environment,
    provenance_of,
    read_frame,
    read_table_file,
    table_bytes,
    write_table,
)

TABLES = {
    "runs": "runs.csv",
    "metrics": "metrics.parquet",
    "switches": "switches.parquet",
    "items": "items.parquet",
    "traces": "traces.parquet",
}
STUDIES = ("divergences", "rules", "floors", "controls", "prompts", "initial_students", "rates", "more_methods", "llama")
"""Of the presets; see `presets`."""

REFERENCE_SCORES = "reference_scores.parquet"


def read_table(results: Path, name: str, runs: Sequence[str] | None = None) -> pd.DataFrame:
    """One of a preset's tables, by its name in `TABLES`; of some runs, or of all.

    Raises:
        FileNotFoundError: if there are no results yet; the message says how to make them.
        DamagedFile: if a file is not what was written.
    """
    _check_together(results, name)
    folders = run_folders(results)
    kept = _kept(results, name, folders)
    if kept is None and not folders:
        there = (results / TABLES["runs"]).is_file()
        advice = f"make it with `adaswitch run --preset {results.name}`"
        raise FileNotFoundError(f"no {results / TABLES[name]}: {'its runs are kept without it' if there else advice}.")
    table = _joined(kept, [_of_folder(folder, name) for folder in folders.values()])
    return table if runs is None else table[table.run.isin(runs)]


def finished(results: Path) -> set[str]:
    """Ids of the runs that are done.

    Raises:
        DamagedFile: if a file is not what was written.
    """
    _check_together(results, "runs")
    folders = run_folders(results)
    for folder in folders.values():
        if wrong := sealed.damage(folder):
            raise _damaged(folder, wrong)
    return set(_joined(_kept(results, "runs", folders), []).run) | {folder.name for folder in folders.values()}


def is_finished(results: Path, run: str) -> bool:
    """Whether this run is done; other runs' folders are not read.

    Raises:
        DamagedFile: if a file is not what was written.
    """
    folder = results / "runs" / run
    if folder.is_dir():
        if wrong := sealed.damage(folder):
            raise _damaged(folder, wrong)
        return True
    _check_together(results, "runs")
    kept = _kept(results, "runs", run_folders(results))
    return kept is not None and run in set(kept.run)


def add_run(results: Path, run: str, settings: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> None:
    """Write the folder of a run that has ended: whole, or not at all. It replaces that of an older run of the same name, of
    another version of the preset.

    Args:
        settings: its row in `runs.csv`.
        tables: the others of `TABLES`, by name; empty ones may be left out.
    """
    folder, new = results / "runs" / run, results / "work" / run / "record"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    (new / "run.json").write_text(json.dumps({"run": run} | dict(settings), indent=2, default=_plain) + "\n", encoding="utf-8")
    (new / "provenance.json").write_text(json.dumps(environment(), indent=2) + "\n", encoding="utf-8")
    for name, table in tables.items():
        if len(table):
            (new / TABLES[name]).write_bytes(table_bytes(table, ".parquet"))
    sealed.seal(new)
    folder.parent.mkdir(exist_ok=True)
    for older in folder.parent.glob("*"):
        if _name(older.name) == _name(run):
            _discard(older)
    os.replace(new, folder)


def collect(results: Path) -> int:
    """Write the folders of runs into the kept tables and remove them; how many there were.

    Raises:
        DamagedFile: if a file is not what was written; nothing is changed then.
    """
    with locked(results / "work" / "collect"):
        folders = run_folders(results)
        if not folders:
            return 0
        parts = {name: [_of_folder(folder, name) for folder in folders.values()] for name in TABLES}
        runs = _joined(_kept(results, "runs", folders), parts.pop("runs"))
        of = digest(runs.run.tolist())
        for name in parts:
            _check_together(results, name, of)
        tables = {name: _joined(_kept(results, name, folders), parts[name]) for name in parts}
        hashes = {}
        for name, table in tables.items():
            if len(table):
                file = write_table(table, results / TABLES[name], preset=results.name, runs=of)
                hashes[name] = provenance_of(file)["sha256"]
        write_table(runs, results / TABLES["runs"], preset=results.name, tables=hashes)
        for folder in folders.values():
            _discard(folder)
        return len(folders)


def run_folders(results: Path) -> dict[str, Path]:
    """The folders of runs that have not been collected, by the runs' names without their hashes."""
    found: dict[str, Path] = {}
    for folder in sorted((results / "runs").glob("*-" + "[0-9a-f]" * 8)):
        other = found.setdefault(_name(folder.name), folder)
        if other != folder:
            raise DamagedFile(f"{other} and {folder.name} are two versions of one run: remove the older.")
    return found


def with_settings(results: Path, name: str, *studies: str) -> pd.DataFrame:
    """A table with the columns method, label, seed and trained_on (the task) of its runs.

    Args:
        studies: none: the runs of the grid. Else those of the studies and the grid's runs that they are paired with (same
            task, method and seed), with all columns of `runs.csv`; where a name is in both tables, that of `runs.csv`
            ends in `_of_run`.

    Raises:
        ValueError: for a study that there is not, and if the grid was made by two versions of the preset, so that its methods
            cannot be compared.
    """
    runs = read_table(results, "runs").rename(columns={"task": "trained_on"})
    known = {*STUDIES, *runs.variant.str.partition(".")[0]} - {""}
    if unknown := sorted(set(studies) - known):
        raise ValueError(f"no study {unknown[0]!r} in {results}: use one of {', '.join(sorted(known))}.")
    grid = runs[runs.variant == ""]
    _same(results, grid.groupby("trained_on"), SAME_IN_A_GRID)
    _same(results, grid.groupby(["trained_on", "method"]), [name for name in grid if name.startswith(SAME_IN_A_METHOD)])
    if not studies:
        runs = grid[["run", "method", "label", "seed", "trained_on"]]
    else:  # a run whose partner is of another version of the preset has none; one with a seed of its own needs none
        others = runs[runs.variant.str.partition(".")[0].isin(studies)]
        others = others[others.paired_with.isin(grid.run) | ~others.seed.isin(grid.seed)]
        runs = pd.concat([grid[grid.run.isin(others.paired_with)], others])
    return read_table(results, name, runs.run).merge(runs, on="run", suffixes=("", "_of_run"))


def reference_items(results: Path) -> pd.DataFrame:
    """Test items of the teacher (method "teacher", seed -1) and of initial students (method "initial"): one row an item, with
    its scores and, where it was kept, the answer. Empty where they were not evaluated."""
    file = results / REFERENCE_SCORES
    return read_table_file(file) if file.is_file() else pd.DataFrame(columns=["method", "seed", "task", "example", "answer"])


def reference_scores(results: Path) -> pd.DataFrame:
    """Mean test scores of the teacher and of initial students: columns method, seed, task, split, metric, value. Empty where they
    were not evaluated."""
    items = reference_items(results)
    if items.empty:
        return pd.DataFrame(columns=["method", "seed", "task", "split", "metric", "value"])
    means = items.drop(columns="example").groupby(["method", "seed", "task"]).mean(numeric_only=True)
    return means.stack().rename_axis([*means.index.names, "metric"]).reset_index(name="value").assign(split="test")


SAME_IN_A_GRID = (
    "teacher initial.steps initial.num_rows initial.learning_rate initial.size.source initial.size.layers num_prompts steps "
    "batch_size eval_every validation_rows test_rows max_prompt_tokens max_new_tokens beta2 weight_decay warmup min_rate"
).split()
"""Settings in which runs of one task must agree."""

SAME_IN_A_METHOD = ("learning_rate", "rule.", "policy", "loss")
"""Beginnings of the names of settings in which runs of one task and method must agree, whatever their seed."""


def _same(results: Path, groups: Any, settings: Sequence[str]) -> None:
    for name, some in groups:
        if mixed := [column for column in settings if column in some and some[column].nunique(dropna=False) > 1]:
            raise ValueError(
                f"runs of {name} in {results} differ in {', '.join(mixed)}: some are of an older preset; "
                f"`adaswitch run --preset {results.name}` makes them again."
            )


def _check_together(results: Path, name: str, of: str = "") -> None:
    """Refuse a kept table that was not written with the others. They are written one after the other, `runs.csv` last: it names
    the others by their SHA-256.

    Args:
        of: the runs that a table may be of instead, since whoever was writing them may have been killed in between.
    """
    runs = results / TABLES["runs"]
    hashes = provenance_of(runs)["settings"].get("tables") if runs.is_file() else {}
    others = [other for other in TABLES if other == name or (name == "runs" and not runs.is_file())]
    for file, other in ((results / TABLES[other], other) for other in others if other != "runs" and hashes is not None):
        made = provenance_of(file) if file.is_file() else {"settings": {}}
        if hashes.get(other) != made.get("sha256") and not (of and made["settings"].get("runs") == of):
            raise DamagedFile(
                f"{file} and {runs} were not written together, by {runs.name}.provenance.json: restore all tables from git, or go "
                f"on with `adaswitch collect --preset {results.name}`."
            )


def _kept(results: Path, name: str, folders: Mapping[str, Path]) -> pd.DataFrame | None:
    """The rows of a kept table but those of older runs of the folders' names; None if it is not kept."""
    file = results / TABLES[name]
    if not file.is_file():
        return None
    table = read_table_file(file)
    return table[~table.run.map(_name).isin(folders)]


def _of_folder(folder: Path, name: str) -> pd.DataFrame | None:
    """The rows of one run; None where it has none."""
    file = folder / ("run.json" if name == "runs" else TABLES[name])
    if name != "runs" and file.name not in sealed.hashes(folder) and not sealed.damage(folder):
        return None
    if wrong := sealed.damage(folder, file.name):
        raise _damaged(folder, wrong)
    if name == "runs":  # as it will be read once it is collected
        return read_frame(table_bytes(pd.DataFrame([json.loads(file.read_text("utf-8"))]), ".csv"), ".csv")
    table = pd.read_parquet(file)
    table.insert(0, "run", folder.name)
    return table


def _joined(kept: pd.DataFrame | None, parts: Sequence[pd.DataFrame | None]) -> pd.DataFrame:
    there = [part for part in (kept, *parts) if part is not None]
    return pd.concat(there).sort_values("run", kind="stable", ignore_index=True) if there else pd.DataFrame(columns=["run"])


def _damaged(folder: Path, wrong: str) -> DamagedFile:
    return DamagedFile(f"{folder} is damaged ({wrong}): remove it, and its run is made again.")


def _discard(folder: Path) -> None:
    """Remove the folder of a run; whoever is killed meanwhile leaves no half of it there."""
    aside = folder.parents[1] / "work" / f"{folder.name}.old"
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(folder, aside)
    shutil.rmtree(aside)


def _name(run: str) -> str:
    """A run's name without the hash of its settings."""
    return run.rsplit("-", 1)[0]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
