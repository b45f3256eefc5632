"""One dial: presets, and the frozen config of each run in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from adaswitch_lib.methods import METHODS, Method, method
from adaswitch_lib.records import digest
from adaswitch_lib.switching import SwitchRule

CORE_METHODS = ("sft", "seqkd", "kd", "onpolicy", "skd", "adaswitch")
TRAINED_TASKS = ("micro_gsm", "micro_dialog")
"""Tasks that a student learns; micro_gsm_plus is answered by the students of micro_gsm."""


@dataclass(frozen=True)
class ModelSize:
    """Of a Llama without tied embeddings."""

    layers: int
    width: int
    heads: int = 4


@dataclass(frozen=True)
class SFTConfig:
    """Supervised training from random weights: of a teacher, or of the student before distillation.

    Attributes:
        size: of the model.
        num_rows: rows of the training split; each is seen `steps * batch_size / num_rows` times.
        steps, batch_size: optimiser steps, and rows in each.
        learning_rate: highest; rises over the first 5 % of the steps, then falls to 0 along a cosine.
    """

    size: ModelSize
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
        teacher: start of the SHA-256 of its weights.
        start: how the student is trained before distillation.
        num_prompts: rows of the training split that it is distilled on.
        steps, batch_size, learning_rate: as in `SFTConfig`; the rate falls to a tenth.
        eval_every: steps between examinations.
        validation_rows, test_rows: how many rows each split has; without test rows the test is left out.
        traced_rows: validation prompts for which every examination keeps a rollout, token by token.
        rule, top_k, initial, decay, fraction, divergence: of the policies that have such a setting. `divergence` is
            the one that the switch looks at.
        loss: the divergence to learn by; None: the method's own.
        variant: a name for a run that differs from the preset, "" for those that do not.
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

    @property
    def id(self) -> str:
        """A readable name, with a hash of everything that decides the numbers."""
        return "-".join(filter(None, (self.task, self.method, self.variant, f"s{self.seed}", digest(asdict(self)))))

    def resolve_method(self) -> Method:
        """The method with this run's settings."""
        settings = {name: getattr(self, name) for name in ("rule", "top_k", "initial", "decay", "fraction")}
        if METHODS[self.method].policy is not None and hasattr(METHODS[self.method].policy, "rule"):
            settings["divergence"] = self.divergence  # the per-token switch has a divergence of its own
        if self.loss is not None:
            settings["loss"] = self.loss
        return method(self.method).with_settings(**settings)


@dataclass(frozen=True)
class Preset:
    """Which runs there are, and where they differ from `base`.

    Attributes:
        base: the settings of all runs; its task, method and seed are placeholders.
        methods, seeds: what "all" stands for.
        choices: settings of a task, or of a task and a method ("micro_gsm", "micro_gsm/kd"), chosen on validation.
        description: what it is for.
    """

    base: RunConfig
    description: str
    methods: tuple[str, ...] = tuple(METHODS)
    seeds: tuple[int, ...] = (0,)
    tasks: tuple[str, ...] = TRAINED_TASKS
    choices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def config(self, task: str, method_name: str, seed: int, **changes: Any) -> RunConfig:
        """The run of one task, method and seed.

        Raises:
            ValueError: for an unknown task or method.
        """
        method(method_name)
        task = {"micro_gsm_plus": "micro_gsm"}.get(task, task)
        if task not in self.tasks:
            raise ValueError(f"unknown task {task!r}: use one of {', '.join(self.tasks)}, micro_gsm_plus.")
        chosen = {**self.choices.get(task, {}), **self.choices.get(f"{task}/{method_name}", {})}
        named = {"task": task, "method": method_name, "seed": seed, "teacher": teacher_digest(task)}
        return replace(self.base, **(chosen | changes | named))

    def configs(self, tasks: Iterable[str], methods: Iterable[str], seeds: Iterable[int]) -> list[RunConfig]:
        """All runs of these, seed by seed, so that the first seed is complete first; each once."""
        tasks, methods = list(tasks), list(methods)
        return list(dict.fromkeys(self.config(task, name, seed) for seed in seeds for name in methods for task in tasks))


STUDENT = ModelSize(layers=2, width=128)
TEACHERS = {
    "micro_gsm": SFTConfig(ModelSize(layers=4, width=128), num_rows=200_000, steps=3000),
    "micro_dialog": SFTConfig(ModelSize(layers=4, width=128), num_rows=60_000, steps=900),
}

_MICRO = RunConfig(
    preset="micro",
    task="",
    method="",
    seed=0,
    teacher="",
    start=SFTConfig(STUDENT, num_rows=1000, steps=400),
    num_prompts=2048,
    steps=500,
    batch_size=64,
    learning_rate=2e-3,
    eval_every=50,
    validation_rows=200,
    test_rows=500,
    traced_rows=16,
    rule=SwitchRule(multiplier=3.0, window=8, min_history=4, floor=1.0),
    top_k=5,
    initial=0.3,
    decay=0.02,
    fraction=0.3,
)

SHIPPED = Path(__file__).parent / "teachers"
"""The teachers of the micro tasks, a folder each."""


def teacher_digest(task: str) -> str:
    """The first eight hexadecimal digits of the SHA-256 of the shipped teacher's weights; "" where there is none."""
    file = SHIPPED / task / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:8] if file.is_file() else ""


_BY_TASK = {"micro_dialog": {"start": SFTConfig(STUDENT, num_rows=1000, steps=140)}}
"""Where tasks differ from each other: dialogues are solved within 200 steps of SFT, so their student starts after 140."""

CHOICES_FILE = Path(__file__).with_name("choices.json")
"""Written by `choosing`: settings of a task and method that did best on validation data."""


def _choices() -> dict[str, dict[str, Any]]:
    chosen = json.loads(CHOICES_FILE.read_text()) if CHOICES_FILE.is_file() else {}
    return _BY_TASK | {name: {key: _setting(key, value) for key, value in settings.items()} for name, settings in chosen.items()}


def _setting(name: str, value: Any) -> Any:
    return SwitchRule(**value) if name == "rule" else value


PRESETS: dict[str, Preset] = {
    "smoke": Preset(
        replace(
            _MICRO,
            preset="smoke",
            start=SFTConfig(STUDENT, num_rows=200, steps=4, batch_size=16),
            num_prompts=64,
            steps=3,
            batch_size=16,
            eval_every=3,
            validation_rows=16,
            test_rows=32,
            traced_rows=2,
        ),
        description="a few steps of everything, for tests",
    ),
    "quick": Preset(
        replace(_MICRO, preset="quick", steps=150, batch_size=32, eval_every=30, validation_rows=100, test_rows=200),
        description="the core methods, one seed",
        methods=CORE_METHODS,
        choices=_choices(),
    ),
    "micro": Preset(_MICRO, description="the reference: every method, five seeds", seeds=(0, 1, 2, 3, 4), choices=_choices()),
    "choosing": Preset(
        replace(_MICRO, preset="choosing", steps=125, eval_every=25, test_rows=0, traced_rows=0),
        description="candidates for the settings of micro, examined on validation data alone, with a seed of their own",
        seeds=(100,),
        choices=_BY_TASK,
    ),
}


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: use one of {', '.join(PRESETS)}.")
    return PRESETS[name]
