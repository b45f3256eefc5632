"""The frozen config of each run, and presets, which say what runs there are."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from adaswitch_lib.experiments.paths import home
from adaswitch_lib.experiments.records import digest
from adaswitch_lib.methods import METHODS, Method, method
from adaswitch_lib.switching import SwitchRule

TRAINED_TASKS = ("micro_gsm", "micro_dialog")
"""Micro tasks that a student learns."""

TRAINED_AS = {"micro_gsm_plus": "micro_gsm", "gsm_plus": "gsm8k"}
"""Tasks that are examinations of another one's students."""


@dataclass(frozen=True)
class ModelSize:
    """Of a Llama without tied embeddings."""

    layers: int
    width: int
    heads: int = 4


@dataclass(frozen=True)
class Pretrained:
    """A model whose weights exist already.

    Attributes:
        source: "smollm2" (see `load_pair`), a hub id or a folder.
        layers: which of its layers to keep; empty: all.
        lora_rank: of an adapter that is trained instead of the weights; 0: the weights themselves.
        bf16: passes in bfloat16 (autocast); the weights that are trained stay in float32.
    """

    source: str
    layers: tuple[int, ...] = ()
    lora_rank: int = 0
    bf16: bool = True


@dataclass(frozen=True)
class SFTConfig:
    """Supervised training: of a teacher, or of the student before distillation.

    Attributes:
        size: the model that is trained: a new one of this size, or one that exists.
        num_rows: rows of the training split; each is seen `steps * batch_size / num_rows` times.
        steps, batch_size: optimiser steps, and rows in each.
        learning_rate: highest; rises over the first 5 % of the steps, then falls to 0 along a cosine.
    """

    size: ModelSize | Pretrained
    num_rows: int
    steps: int
    batch_size: int = 64
    learning_rate: float = 2e-3


@dataclass(frozen=True)
class RunConfig:
    """All that decides the numbers of one run, but for versions and machine.

    Attributes:
        preset, task, method, seed: as on the command line. The seed gives the student's start, the prompts, their
            order and the rows' seeds: the same for all methods.
        teacher: the start of the SHA-256 of its weights, where this project trained it; else its hub id or folder.
        start: how the student is trained before distillation; with 0 steps it is taken as it is.
        num_prompts: rows of the training split that it is distilled on.
        steps, batch_size, learning_rate: as in `SFTConfig`; the rate falls to a tenth.
        eval_every: steps between examinations.
        validation_rows, test_rows: how many rows each split has; without test rows the test is left out.
        traced_rows: validation prompts for which every examination keeps a rollout, token by token.
        rule, top_k, initial, decay, fraction, divergence: of the policies that have such a setting. `divergence` is
            the one that the switch looks at.
        loss: the divergence to learn by; None: the method's own.
        variant: of a run that differs from the grid's, the study and its name there; "" for those of the grid.
        max_prompt_tokens, max_new_tokens: rows of training and validation that are longer are left out, and answers are cut
            (see `limited`); None: no row is left out, and answers are as long as the task says.
        micro_batch: rows for which a loss is made at once, of a batch that does not fit into memory; None: all.

    Raises:
        ValueError: for a batch that does not divide into micro-batches, and a student that would be an adapter.
    """

    preset: str
    task: str
    method: str
    seed: int
    teacher: str
    start: SFTConfig
    num_prompts: int
    steps: int
    batch_size: int
    learning_rate: float
    eval_every: int
    validation_rows: int
    test_rows: int
    traced_rows: int
    rule: SwitchRule
    top_k: int
    initial: float
    decay: float
    fraction: float
    divergence: str = "forward_kl"
    loss: str | None = None
    variant: str = ""
    max_prompt_tokens: int | None = None
    max_new_tokens: int | None = None
    micro_batch: int | None = None

    def __post_init__(self):
        if self.micro_batch is not None and (self.micro_batch < 1 or self.batch_size % self.micro_batch):
            raise ValueError(f"a batch of {self.batch_size} rows does not divide into micro-batches of {self.micro_batch}.")
        if isinstance(self.start.size, Pretrained) and self.start.size.lora_rank:
            raise ValueError("a run trains all of its student: lora_rank is for teachers. RolloutTrainer takes peft students.")

    @property
    def id(self) -> str:
        """A readable name, with a hash of everything that decides the numbers."""
        told = {name: value for name, value in asdict(self).items() if name not in LATER or value is not None}
        return "-".join(filter(None, (self.task, self.method, self.variant, f"s{self.seed}", digest(told))))

    @property
    def bf16(self) -> bool:
        """Whether passes are made in bfloat16."""
        return isinstance(self.start.size, Pretrained) and self.start.size.bf16

    def resolve_method(self) -> Method:
        """The method with this run's settings."""
        policy = METHODS[self.method].policy
        names = ("rule", "top_k", "initial", "decay", "fraction", *(["divergence"] if hasattr(policy, "rule") else []))
        settings = {name: getattr(self, name) for name in names if hasattr(policy, name)}
        if self.loss is not None and METHODS[self.method].loss != "nll":
            settings["loss"] = self.loss
        return method(self.method).with_settings(**settings)

    def changed(self, **settings: Any) -> RunConfig:
        """The same run with other settings; those of its rule (multiplier, window, min_history, floor) by their own names, too."""
        of_rule = {field.name: settings.pop(field.name) for field in fields(SwitchRule) if field.name in settings}
        rule = replace(settings.pop("rule", self.rule), **of_rule)
        return replace(self, rule=rule, **settings)


LATER = ("max_prompt_tokens", "max_new_tokens", "micro_batch")
"""Settings that came after the first runs were made: where they are None, ids are what they were before."""


@dataclass(frozen=True)
class Study:
    """Runs that differ in a few settings from those of the grid, each from the one of the same task, method and seed.

    Attributes:
        variants: name -> what differs, as in `RunConfig.changed`; a value may be a function of the grid's run.
    """

    variants: Mapping[str, Mapping[str, Any]]
    methods: tuple[str, ...] = ("adaswitch",)
    tasks: tuple[str, ...] = ("micro_gsm",)
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Preset:
    """Which runs there are, and where they differ from `base`.

    Attributes:
        base: the settings of all runs; its task, method and seed are placeholders.
        methods, seeds: what "all" stands for.
        studies: name -> runs beside the grid.
        choices: settings of a task, or of a task and a method ("micro_gsm", "micro_gsm/kd"), chosen on validation.
        looked_at: tasks for which the pair only writes, before anything is trained (see `references`).
        teachers: task -> hub id or folder of a teacher that is used as it is; the others this project trains.
        description: what it is for.
    """

    base: RunConfig
    description: str
    methods: tuple[str, ...] = tuple(METHODS)
    seeds: tuple[int, ...] = (0,)
    tasks: tuple[str, ...] = TRAINED_TASKS
    studies: Mapping[str, Study] = field(default_factory=dict)
    choices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    looked_at: tuple[str, ...] = ()
    teachers: Mapping[str, str] = field(default_factory=dict)

    def config(self, task: str, method_name: str, seed: int, **changes: Any) -> RunConfig:
        """The run of one task, method and seed.

        Raises:
            ValueError: for an unknown task or method.
        """
        method(method_name)
        task = TRAINED_AS.get(task, task)
        if task not in self.tasks:
            examined = [name for name, trained_as in TRAINED_AS.items() if trained_as in self.tasks]
            raise ValueError(f"unknown task {task!r}: use one of {', '.join([*self.tasks, *examined])}.")
        if changes and "variant" not in changes:  # or it would take the place of the grid's run
            changes["variant"] = f"adhoc.{digest(repr(sorted(changes.items())))}"
        chosen = {**self.choices.get(task, {}), **self.choices.get(f"{task}/{method_name}", {})}
        named = {"task": task, "method": method_name, "seed": seed}
        of_task = {"teacher": self.teachers.get(task) or teacher_digest(task)}
        return self.base.changed(**chosen).changed(**(of_task | changes | named))  # a rule that is given stands as it is

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
        of = self.studies[name]
        runs = []
        for seed, variant, method_name, task in itertools.product(of.seeds, of.variants, of.methods, of.tasks):
            plain = self.config(task, method_name, seed)
            settings = {key: value(plain) if callable(value) else value for key, value in of.variants[variant].items()}
            other = plain.changed(**settings)
            runs.append(plain if other == plain else other.changed(variant=f"{name}.{variant}"))  # no run is made twice
        return list(dict.fromkeys(runs))

    def everything(self) -> list[RunConfig]:
        """The grid, then all studies."""
        grid = self.configs(self.tasks, self.methods, self.seeds)
        return list(dict.fromkeys(grid + [run for name in self.studies for run in self.study(name)]))


def teacher_folder(task: str) -> Path:
    """Of a teacher that this project trains. Those of the micro tasks ship with the package. Adapters stand with the
    results, since the licence of what they learned from does not allow every use."""
    return Path(__file__).parent / "teachers" / task if task in TRAINED_TASKS else home() / "results/smollm2/teachers" / task


def teacher_digest(task: str) -> str:
    """The first eight hexadecimal digits of the SHA-256 of such a teacher's weights; "" where there is none."""
    for file in (teacher_folder(task) / name for name in ("model.safetensors", "adapter_model.safetensors")):
        if file.is_file():
            return hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    return ""
