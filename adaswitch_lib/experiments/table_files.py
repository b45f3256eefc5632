"""Table files: written whole or not at all, each beside its provenance, and read only as they were written. No torch."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PACKAGES = ("torch", "transformers", "datasets", "numpy", "pandas", "matplotlib")
TEXT_COLUMNS = ("run", "paired_with", "teacher", "commit", "python", "variant")
"""Columns of CSV files that are text whatever they look like: hexadecimal digits may look like a number."""


class DamagedFile(ValueError):
    """A file that is not what was written; the message names it and says what to do."""


def write_table(frame: pd.DataFrame, file: Path, **settings: Any) -> Path:
    """Write a table as CSV or Parquet, by the file's ending, and beside it `<file>.provenance.json`.

    Args:
        frame: one row an observation; floats are written with five significant digits.
        file: where to; an older one is replaced at once, so that no reader sees half a file. One with the same content and
            settings is left as it is, with the provenance of whoever made it first.
        settings: what was run: models, seeds, threads, rule, …

    Raises:
        ValueError: for another ending.
        OSError: where it cannot be written; an older file then stays as it was.
    """
    content = table_bytes(frame, file.suffix)
    known = json.loads(json.dumps(settings, default=str))
    hash_ = hashlib.sha256(content).hexdigest()
    provenance = _provenance_file(file)
    if file.is_file() and provenance.is_file():
        before = _read_json(provenance)
        if before.get("sha256") == hash_ == _hash(file) and before.get("settings") == known:
            return file
    text = json.dumps({"settings": known, "sha256": hash_} | environment(), indent=2) + "\n"
    files = {provenance: text.encode(), file: content}  # in this order: see `read_bytes`
    for name, new in files.items():
        _temporary(name).write_bytes(new)
    for name in files:
        os.replace(_temporary(name), name)
    return file


def table_bytes(frame: pd.DataFrame, suffix: str) -> bytes:
    """The content of a table file.

    Raises:
        ValueError: for an ending other than .csv and .parquet.
    """
    rounded = frame.assign(**{name: significant(frame[name]) for name in frame.select_dtypes("float")})
    if suffix == ".csv":
        return rounded.to_csv(index=False, float_format="%.5g").encode()
    if suffix == ".parquet":
        return rounded.to_parquet(index=False, compression="zstd", compression_level=19)
    raise ValueError(f"tables are written as .csv or .parquet, not as {suffix!r}.")


def significant(column: pd.Series, digits: int = 5) -> pd.Series:
    """Numbers rounded to so many significant digits."""
    values = column.to_numpy(dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        places = digits - 1 - np.floor(np.log10(np.abs(values)))
    places = np.where(np.isfinite(places), places, 0.0)
    scale = 10.0 ** np.abs(places)  # a power that is exact, so that 0.3 becomes 0.3
    with np.errstate(invalid="ignore"):
        rounded = np.where(places >= 0, np.round(values * scale) / scale, np.round(values / scale) * scale)
    return pd.Series(rounded, column.index).astype(column.dtype)


def read_table_file(file: Path) -> pd.DataFrame:
    """A table that `write_table` wrote.

    Raises:
        FileNotFoundError: if it is not there.
        DamagedFile: if it is not what was written.
    """
    return read_frame(read_bytes(file), file.suffix)


def read_frame(content: bytes, suffix: str) -> pd.DataFrame:
    """The table whose bytes these are."""
    if suffix == ".parquet":
        return pd.read_parquet(io.BytesIO(content))
    table = pd.read_csv(io.BytesIO(content), dtype=dict.fromkeys(TEXT_COLUMNS, str))
    return table.fillna({"variant": ""}) if "variant" in table else table


def read_bytes(file: Path) -> bytes:
    """The bytes of a file that `write_table` wrote.

    Whoever is killed while he writes may leave the new provenance beside the old table, and the new table beside both:
    then it is put in its place here.
    """
    provenance = _provenance_file(file)
    advice = "restore both from git, or remove both and make them again"
    if not file.is_file() and not _temporary(file).is_file():
        raise FileNotFoundError(f"no {file}.")
    wanted = _read_json(provenance).get("sha256")
    if wanted is None:
        raise DamagedFile(f"{file} was written by an earlier version of this project: remove {file.parent}, and make it again.")
    if file.is_file() and hashlib.sha256(content := file.read_bytes()).hexdigest() == wanted:
        return content
    if _temporary(file).is_file() and _hash(_temporary(file)) == wanted:
        os.replace(_temporary(file), file)
        return file.read_bytes()
    raise DamagedFile(f"{file} is not what was written, by its SHA-256 in {provenance.name}: {advice}.")


def provenance_of(file: Path) -> dict[str, Any]:
    """What is known of how a table was made."""
    return _read_json(_provenance_file(file))


def digest(settings: Any) -> str:
    """Eight hexadecimal digits that change with any of the settings; 3 and 3.0 are the same."""
    plain = json.loads(json.dumps(settings, default=repr), parse_int=float)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]


def environment() -> dict[str, Any]:
    """Commit, date, machine and packages, as they stand in provenance."""
    return {
        "commit": COMMIT,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _provenance_file(file: Path) -> Path:
    return file.with_name(file.name + ".provenance.json")


def _temporary(file: Path) -> Path:
    return file.with_name(file.name + ".tmp")


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise DamagedFile(f"{file} is missing: restore it from git, or remove its table.") from None
    except ValueError as error:
        raise DamagedFile(f"{file} is damaged ({error}): restore it from git, or remove it and its table.") from None
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        raise DamagedFile(f"{file} is damaged: restore it from git, or remove it and its table.")
    return found


def _commit() -> str | None:
    """The commit this package runs from, with a + if the package differs from it; None outside a checkout."""
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)  # it may be installed within somebody else's checkout
        commit = _git("describe", "--always", "--abbrev=12", "--exclude=*")
        return commit + "+" * bool(_git("status", "--porcelain", "--", ".."))  # results grow while runs are made
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*command: str) -> str:
    return subprocess.run(["git", *command], cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


COMMIT = _commit()
"""Of the code that this process has loaded, not of what the checkout holds when it ends."""
