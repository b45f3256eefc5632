"""Processes that make runs side by side. They outlive neither the process that started them nor its Ctrl-C.

No torch at import, so that a worker watches its parent before it loads anything.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing import connection, get_context, parent_process, resource_tracker
from typing import Any

from tqdm.auto import tqdm

from adaswitch_lib.experiments.failures import EXPECTED, FullDisk, full_disk, in_one_line
from adaswitch_lib.experiments.logs import log_lines, logger, watched

TRIES = 2
"""How often a run is begun whose worker dies."""

STOPS = (signal.SIGTERM, signal.SIGINT)


def work_off(make: str, runs: Mapping[str, Any], jobs: int) -> dict[str, str]:
    """Make runs, `jobs` at a time; which of them failed, and why. A worker that dies takes none of the others' runs with it, and
    its own is tried once more.

    Args:
        make: "module:function" that makes one, as it is imported in a worker.
        runs: name -> what `make` is given.
        jobs: how many processes; 0: none, all runs are made in this one.

    Raises:
        FullDisk: as soon as it is, since all runs would fail.
    """
    return _in_processes(make, runs, jobs) if jobs else _in_this_process(make, runs)


def _in_this_process(make: str, runs: Mapping[str, Any]) -> dict[str, str]:
    errors = {}
    for name, given in tqdm(runs.items(), unit="run", disable=not watched()):
        errors[name] = _error_of(_imported(make), given)
        if isinstance(errors[name], FullDisk):
            raise errors[name]
    return {name: error for name, error in errors.items() if error}


def _in_processes(make: str, runs: Mapping[str, Any], jobs: int) -> dict[str, str]:
    level = logging.WARNING if watched() else logger.getEffectiveLevel()
    queue, tries, failed = deque(runs), Counter(), {}
    workers: list[_Worker] = []  # all that were started
    idle: list[_Worker] = []
    busy: dict[connection.Connection, _Worker] = {}
    bar = tqdm(total=len(runs), unit="run", disable=not watched())
    try:
        while queue or busy:
            while queue and len(busy) < jobs:
                name = queue.popleft()
                tries[name] += 1
                if not idle:
                    with _interrupts_later():  # or a worker might be started that nobody knows
                        workers.append(_Worker(make, level))
                    idle.append(workers[-1])
                worker = idle.pop()
                busy[worker.pipe] = worker
                worker.begin(name, runs[name])
            for pipe in connection.wait(list(busy)):
                worker = busy.pop(pipe)
                name = worker.run
                try:
                    error = pipe.recv()
                    idle.append(worker)
                except (EOFError, ConnectionError):
                    error = worker.death()
                    if tries[name] < TRIES:
                        logger.warning("%s: %s; it is tried once more", name, error)
                        queue.append(name)
                        continue
                if isinstance(error, FullDisk):
                    raise error
                if error:
                    failed[name] = error
                bar.update()
    finally:
        with _interrupts_later():  # or a second Ctrl-C might leave some of them
            for worker in workers:
                worker.end()
        bar.close()
    return failed


class _Worker:
    """A process that makes one run after the other."""

    def __init__(self, make: str, level: int):
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make, level), daemon=True)
        self.process.start()
        theirs.close()
        self.run = ""

    def begin(self, name: str, given: Any) -> None:
        self.run = name
        with suppress(ConnectionError):  # it has died: whoever waits for it sees that
            self.pipe.send(given)

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
    """Ctrl-C and SIGTERM take effect at the end. A process that is started here leaves Ctrl-C, which goes to all processes of a
    terminal, to its parent."""
    held: list[int] = []
    interrupted = STOPS if threading.current_thread() is threading.main_thread() else ()  # no other thread ever is
    before = {number: signal.signal(number, lambda number, _: held.append(number)) for number in interrupted}
    try:
        with _interrupts_blocked():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in held:
            signal.raise_signal(number)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """What is started here inherits that; other threads of this process still get them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # which would unblock signals, were it started below
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: connection.Connection, make: str, level: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TQDM_DISABLE"] = "1"  # one bar, that of the runs, is enough
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which is left over where a process is killed
    log_lines(level)
    function = _imported(make)
    with suppress(EOFError, OSError):  # the parent is gone
        while True:
            given = pipe.recv()
            pipe.send(_error_of(function, given))


def _imported(make: str) -> Callable[[Any], Any]:
    module, _, name = make.partition(":")
    return getattr(import_module(module), name)


def _error_of(make: Callable[[Any], Any], given: Any) -> str | FullDisk | None:
    """Make a run; why it failed, if it did."""
    try:
        make(given)
    except Exception as error:
        if full := full_disk(error):
            return full
        if not isinstance(error, EXPECTED):
            logger.error("%s", traceback.format_exc())
        return in_one_line(error)
    return None


def _end_with_parent() -> None:
    """A worker whose parent was killed would go on with its run, which resumes from its checkpoint."""
    parent_process().join()
    os._exit(1)
