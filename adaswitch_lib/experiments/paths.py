"""Where results, figures and data are, whatever folder a notebook runs in."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder that holds `results/` and `figures/`.

    ADASWITCH_HOME if it is set; else the nearest folder from here upwards that has a `notebooks/` and an
    `adaswitch_lib/`; else the working directory.
    """
    if folder := _folder("ADASWITCH_HOME"):
        return folder
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "adaswitch_lib").is_dir():
            return folder
    return here


def results_dir(preset: str) -> Path:
    """`results/<preset>`, made if need be."""
    return _made(home() / "results" / preset)


def figures_dir(preset: str) -> Path:
    """`figures/<preset>`, made if need be."""
    return _made(home() / "figures" / preset)


def data_dir() -> Path | None:
    """The folder of the full data sets that ADASWITCH_DATA names; None if it is not set."""
    return _folder("ADASWITCH_DATA")


def _folder(variable: str) -> Path | None:
    """The absolute path that an environment variable names, ~ expanded; None if it is not set or empty.

    Raises:
        ValueError: for the home of a user that does not exist.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        return None
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"{variable} is {value!r}, and there is no such home folder: write the path out.") from None


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
