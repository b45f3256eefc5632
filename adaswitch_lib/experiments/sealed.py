"""Folders that are whole or count for nothing: what was written into them is known by its SHA-256. No torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

SEAL = "sha256.json"
"""The file of a folder that holds the SHA-256 of all others; it is written last."""


def seal(folder: Path) -> None:
    """Write down what the files of a folder are, but for texts (.md); from now on it counts as whole."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name != SEAL and file.suffix != ".md"]
    hashes = {file.name: _hash(file) for file in files}
    (folder / SEAL).write_text(json.dumps(hashes, indent=2) + "\n")


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file, as it was when the folder was sealed; none for a folder that was not."""
    try:
        found = json.loads((folder / SEAL).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def damage(folder: Path, *names: str) -> str | None:
    """What is wrong with a folder, in words that go on a sentence; None if nothing is.

    Args:
        names: files to look at; none: all that were sealed.
    """
    known = hashes(folder)
    if not known:
        return f"{SEAL} is missing or damaged"
    for name in names or known:
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if _hash(file) != known.get(name):
            return f"{name} is not what was written"
    return None


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
