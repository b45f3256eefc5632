"""Make runs: one after the other or several at a time; what is done is skipped, what was stopped goes on.

A run is a pipeline of four rooms, each entered once: `prepare`, `train`, `evaluate_student`, `record`. It works in
`results/<preset>/work/<id>/`, where its checkpoints lie, and ends in `results/<preset>/runs/<id>/`.
"""

from __future__ import annotations

import gc
import math
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from adaswitch_lib.experiments.config import RunConfig
from adaswitch_lib.experiments.final_evaluation import evaluate_student
from adaswitch_lib.experiments.locks import locked
from adaswitch_lib.experiments.logs import logger
from adaswitch_lib.experiments.paths import results_dir
from adaswitch_lib.experiments.preparation import prepare
from adaswitch_lib.experiments.recording import record
from adaswitch_lib.experiments.records import finished, is_finished
from adaswitch_lib.experiments.training import train
from adaswitch_lib.experiments.workers import work_off

PROCESS_BYTES = 7e8
"""What a process that makes a micro run needs, without the pages of libraries that processes share."""


def run_all(configs: Sequence[RunConfig], jobs: int | None = None) -> None:
    """Make all runs that are not done yet, `jobs` at a time, each in a process with its share of the threads.

    Args:
        jobs: 0: one after the other, in this process; None: as many as `fitting_jobs` says.

    Raises:
        RuntimeError: at the end, if some failed; it names them. A student that collapsed is a result, not a failure.
        FullDisk: as soon as it is.
    """
    jobs = fitting_jobs() if jobs is None else jobs
    if jobs < 0:
        raise ValueError(f"jobs must be 0 or more, got {jobs}.")
    done = {preset: finished(results_dir(preset)) for preset in {config.preset for config in configs}}
    todo = [config for config in configs if config.id not in done[config.preset]]
    threads = max(1, torch.get_num_threads() // max(1, jobs))
    failed = work_off(f"{__name__}:run_with", {config.id: (config, threads) for config in todo}, jobs)
    if failed:
        raise RuntimeError("\n".join(f"{name} failed: {why}" for name, why in failed.items()))


def fitting_jobs() -> int:
    """Micro runs at a time for which there are cores, or a GPU, and memory; 0 where it is enough for this process alone."""
    cores = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    return max(0, min(cores, int(memory_limit() / PROCESS_BYTES) - 1))


def memory_limit() -> float:
    """Bytes that this process and its children may hold: by what a hub says of its containers, or a container of itself, or the
    machine."""
    limits = [float(os.environ.get("MEM_LIMIT") or math.inf)]  # JupyterHub and Binder
    with suppress(OSError, ValueError):  # no control groups, or no limit ("max")
        limits.append(float(Path("/sys/fs/cgroup/memory.max").read_text()))
    with suppress(AttributeError, ValueError, OSError):  # Windows
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits)


def run_with(given: tuple[RunConfig, int]) -> bool:
    """Make one run with so many threads of torch."""
    config, threads = given
    torch.set_num_threads(threads)
    return run(config)


def run(config: RunConfig) -> bool:
    """Make one run, or the rest of it. False if it is done already, or another process is at it."""
    results = results_dir(config.preset)
    work = results / "work" / config.id
    with locked(work, wait=False) as free:
        if not free:
            logger.warning("%s: another process is making it", config.id)
            return False
        made = not is_finished(results, config.id)
        try:
            if made:
                _make(config, results, work)
        finally:
            gc.collect()  # trainer and callbacks hold each other, and with them the models, until someone asks
        shutil.rmtree(work, ignore_errors=True)
    return made


def _make(config: RunConfig, results: Path, work: Path) -> None:
    prepared = prepare(config)
    trained = train(prepared, work)
    evaluated = evaluate_student(prepared, trained)
    record(prepared, trained, evaluated, results)
