"""Results on disk: written whole or not at all, each beside its provenance. No torch."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

PACKAGES = ("torch", "transformers", "datasets", "numpy", "pandas", "matplotlib")


def write_table(frame: pd.DataFrame, file: Path, **settings: Any) -> Path:
    """Write a table as CSV or Parquet, by the file's ending, and beside it `<file>.provenance.json`.

    Args:
        frame: one row an observation.
        file: where to; an older one is replaced at once, so that no reader sees half a file.
        settings: what was run: models, seeds, threads, rule, …

    Raises:
        ValueError: for another ending.
    """
    if file.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{file.name}: tables are written as .csv or .parquet.")
    temporary = file.with_name(file.name + ".tmp")
    if file.suffix == ".csv":
        frame.to_csv(temporary, index=False)
    else:
        frame.to_parquet(temporary, index=False)
    provenance = file.with_name(file.name + ".provenance.json")
    provenance.with_name(provenance.name + ".tmp").write_text(json.dumps(_provenance(settings), indent=2, default=str) + "\n")
    os.replace(provenance.with_name(provenance.name + ".tmp"), provenance)
    os.replace(temporary, file)
    return file


def _provenance(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "settings": settings,
        "commit": _commit(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _commit() -> str | None:
    """The commit this package runs from, with a + if the work tree differs; None outside a checkout."""
    try:
        command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
