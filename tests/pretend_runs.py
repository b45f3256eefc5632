"""Runs that only pretend, for tests of the workers: `work_off` imports them by name in its processes."""

import errno
import os
import signal
import time
from pathlib import Path

from adaswitch_lib.experiments import failures


def make(given):
    """Do what the first word says, and note in the folder that comes second who has begun."""
    what, folder = given
    (Path(folder) / f"{what}-{os.getpid()}-{time.time_ns()}").touch()
    if what == "sleep":
        time.sleep(600)
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "die once" and len(list(Path(folder).glob("die once-*"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "fail":
        raise ValueError("two\nlines")
    if what == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "some file")
    if what == "full in a library":
        raise RuntimeError("Error: I/O error: No space left on device (os error 28)")
    if what == "full in silence":
        failures.LEAST_SPACE = float("inf")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 681088 vs 680980")
