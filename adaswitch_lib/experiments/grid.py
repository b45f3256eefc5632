"""Which runs there are: a preset is a grid of tasks, methods and seeds, and studies beside it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adaswitch_lib.experiments.config import RunConfig
from adaswitch_lib.experiments.recipes import teacher_digest
from adaswitch_lib.experiments.table_files import digest
from adaswitch_lib.experiments.tasks import TASKS
from adaswitch_lib.methods import METHODS

Changes = Mapping[str, Any]
"""Settings by name, as in `RunConfig.changed`."""


@dataclass(frozen=True)
class Study:
    """Runs that differ in a few settings from those of the grid, each from the one of the same task, method and seed.

    Attributes:
        variants: name -> what differs, or a function that says so of the grid's run.
    """

    variants: Mapping[str, Changes | Callable[[RunConfig], Changes]]
    methods: tuple[str, ...] = ("adaswitch",)
    tasks: tuple[str, ...] = ("micro_gsm",)
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Preset:
    """Which runs there are, and where they differ from `base`.

    Attributes:
        base: the settings of all runs; its task, method and seed are placeholders.
        description: what it is for.
        tasks, methods, seeds: what "all" stands for.
        choices: settings of a task, of a method, or of a task and a method ("micro_gsm", "skd", "micro_gsm/kd"); later ones of
            these three count.
        studies: name -> runs beside the grid.
        other_tasks: tasks for which the pair only writes, before anything is trained (see `reference_scores`).
        teachers: task -> hub id or folder of a teacher that is used as it is; the others this project trains.
    """

    base: RunConfig
    description: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...] = tuple(METHODS)
    seeds: tuple[int, ...] = (0,)
    choices: Mapping[str, Changes] = field(default_factory=dict)
    studies: Mapping[str, Study] = field(default_factory=dict)
    other_tasks: tuple[str, ...] = ()
    teachers: Mapping[str, str] = field(default_factory=dict)

    def config(self, task: str, method_name: str, seed: int, **changes: Any) -> RunConfig:
        """The run of one task, method and seed; with changes one beside the grid.

        Raises:
            ValueError: for an unknown task, method or setting.
        """
        task = self.trained_task(task)
        teacher = self.teachers.get(task) or teacher_digest(task)
        plain = self.base.changed(task=task, method=method_name, seed=seed, teacher=teacher)
        for name in (task, method_name, f"{task}/{method_name}"):
            plain = plain.changed(**self.choices.get(name, {}))
        if not changes:
            return plain
        named = {"variant": f"adhoc.{digest(repr(sorted(changes.items())))}", "paired_with": plain.id}
        return plain.changed(**named | changes)

    def trained_task(self, task: str) -> str:
        """The task whose students answer this one.

        Raises:
            ValueError: for a task that this preset has no students of.
        """
        trained = TASKS[task].trained_as if task in TASKS else task
        if trained not in self.tasks:
            known = [name for name in TASKS if TASKS[name].trained_as in self.tasks]
            raise ValueError(f"unknown task {task!r}: use one of {', '.join(known)}.")
        return trained

    def configs(self, tasks: Iterable[str], methods: Iterable[str], seeds: Iterable[int]) -> list[RunConfig]:
        """The grid: all runs of these, seed by seed, so that the first seed is complete first; each once."""
        tasks, methods = list(tasks), list(methods)
        return list(dict.fromkeys(self.config(task, name, seed) for seed in seeds for name in methods for task in tasks))

    def study(self, name: str) -> list[RunConfig]:
        """The runs of one of `studies`, seed by seed.

        Raises:
            ValueError: for an unknown study.
        """
        if name not in self.studies:
            raise ValueError(f"unknown study {name!r}: {self.base.preset} has {', '.join(self.studies) or 'none'}.")
        study = self.studies[name]
        runs = []
        for seed, variant, method_name, task in itertools.product(study.seeds, study.variants, study.methods, study.tasks):
            plain, changes = self.config(task, method_name, seed), study.variants[variant]
            other = plain.changed(**(changes(plain) if callable(changes) else changes))
            # no run is made twice
            runs.append(plain if other == plain else other.changed(variant=f"{name}.{variant}", paired_with=plain.id))
        return list(dict.fromkeys(runs))

    def everything(self) -> list[RunConfig]:
        """The grid, then all studies."""
        grid = self.configs(self.tasks, self.methods, self.seeds)
        return list(dict.fromkeys(grid + [run for name in self.studies for run in self.study(name)]))
