"""One way to keep two processes from the same thing: a file lock beside it, which goes when its process does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def locked(file: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock `<file>.lock`.

    Args:
        wait: whether to wait for whoever holds it; if not, what is given is False where someone does.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file.with_name(f"{file.name}.lock"), timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
