"""Processes that make runs side by side. They outlive neither the process that started them nor its Ctrl-C.

No torch at import, so that a worker watches its parent before it loads anything.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import connection, get_context, parent_process, resource_tracker
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from adaswitch_lib.experiments.logs import log_lines, logger, watched
from adaswitch_lib.experiments.paths import results_dir

if TYPE_CHECKING:
    from adaswitch_lib.experiments.config import RunConfig

TRIES = 2
"""How often a run is begun whose worker dies."""


def work_off(runs: Mapping[str, RunConfig], jobs: int, threads: int) -> dict[str, str]:
    """Make runs, `jobs` at a time; which of them failed, and why. A worker that dies takes none of the others' runs with it, and
    its own is tried once more.

    Args:
        runs: name -> config.
        threads: of torch, in each process.

    Raises:
        OSError: as soon as the disk is full, since all runs would fail.
    """
    level = logging.WARNING if watched() else logger.getEffectiveLevel()
    queue, tries, failed = deque(runs), Counter(), {}
    idle: list[_Worker] = []
    busy: dict[connection.Connection, _Worker] = {}
    bar = tqdm(total=len(runs), unit="run", disable=not watched())
    try:
        while queue or busy:
            while queue and len(busy) < jobs:
                worker = next((worker for worker in idle if worker.process.is_alive()), None) or _Worker(threads, level)
                idle = [other for other in idle if other is not worker]
                worker.begin(name := queue.popleft(), runs[name])
                tries[name] += 1
                busy[worker.pipe] = worker
            for pipe in connection.wait(list(busy)):
                worker = busy.pop(pipe)
                name = worker.run
                try:
                    error = pipe.recv()
                    idle.append(worker)
                except EOFError:
                    error = worker.death()
                    if tries[name] < TRIES:
                        logger.warning("%s: %s; it is tried once more", name, error)
                        queue.append(name)
                        continue
                if isinstance(error, OSError):
                    raise error
                if error:
                    failed[name] = error
                bar.update()
    finally:
        for worker in (*idle, *busy.values()):
            worker.end()
        bar.close()
    return failed


class _Worker:
    """A process that makes one run after the other."""

    def __init__(self, threads: int, level: int):
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, threads, level), daemon=True)
        with _interrupts_later():
            self.process.start()
        theirs.close()
        self.run = ""

    def begin(self, name: str, config: RunConfig) -> None:
        self.run = name
        self.pipe.send(config)

    def death(self) -> str:
        """What ended it, in words."""
        self.process.join()
        code = self.process.exitcode
        if code == -9:  # SIGKILL
            return "its process was killed, probably for want of memory: use fewer --jobs"
        return f"its process ended with code {code}"

    def end(self) -> None:
        """At once: a run goes on from its last checkpoint."""
        self.process.kill()
        self.process.join()


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Ctrl-C goes to all processes of a terminal, and a process that is started here shall leave it to its parent."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # which would unblock signals, were it started below
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: connection.Connection, threads: int, level: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TQDM_DISABLE"] = "1"  # one bar, that of the runs, is enough
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which is left over where a process is killed
    import torch

    from adaswitch_lib.experiments.runs import run

    torch.set_num_threads(threads)
    log_lines(level)
    with suppress(EOFError):  # the parent is gone
        while True:
            config = pipe.recv()
            pipe.send(_error_of(run, config))


def _error_of(run: Callable[[RunConfig], Any], config: RunConfig) -> str | OSError | None:
    """Make a run; why it failed, if it did, in one line."""
    try:
        run(config)
    except Exception as error:
        if full := _full_disk(error):
            return full
        file = results_dir(config.preset) / "work" / config.id / "error.txt"
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(traceback.format_exc(), encoding="utf-8")
        return f"{type(error).__name__}: {' '.join(str(error).split())} (traceback: {file})"


def _full_disk(error: Exception) -> OSError | None:
    """Whatever library met it."""
    if getattr(error, "errno", None) == errno.ENOSPC or "no space left" in str(error).lower():
        return OSError(errno.ENOSPC, "no space left on the disk of the results: make some, and the same command goes on")
    return None


def _end_with_parent() -> None:
    """A worker whose parent was killed would go on with its run, which resumes from its checkpoint."""
    parent_process().join()
    os._exit(1)
