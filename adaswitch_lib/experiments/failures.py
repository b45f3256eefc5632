"""What went wrong, in one line. No torch."""

from __future__ import annotations

import shutil

from adaswitch_lib.experiments.paths import home

EXPECTED = (ValueError, OSError, RuntimeError, ImportError)
"""Errors whose messages say enough; others are faults of this code, and want a traceback."""

LEAST_SPACE = 2**20
"""Bytes on the disk below which it counts as full: what could not be written leaves a part of itself, or room for no other file."""


class FullDisk(OSError):
    """No file can be written; with it every run would fail."""


def full_disk(error: Exception) -> FullDisk | None:
    """The error as one of a full disk, if it is one. Libraries say so each in words of their own, or not at all."""
    if "no space left" in str(error).lower() or shutil.disk_usage(home()).free < LEAST_SPACE:
        return FullDisk(f"no space is left on the disk that has {home()}: make some, and the same command goes on.")
    return None


def in_one_line(error: Exception) -> str:
    """The kind of an error and its message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
