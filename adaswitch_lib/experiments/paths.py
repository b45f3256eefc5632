"""Where results and figures go, whatever folder a notebook runs in."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder that holds `results/` and `figures/`.

    ADASWITCH_HOME if it is set; else the nearest folder from here upwards that has a `notebooks/` and an
    `adaswitch_lib/`; else the working directory.
    """
    if folder := os.environ.get("ADASWITCH_HOME"):
        return Path(folder)
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


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
