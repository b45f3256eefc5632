"""The frozen config of each run: all that decides its numbers, and a name made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any

from adaswitch_lib.experiments.table_files import digest
from adaswitch_lib.methods import Method, method
from adaswitch_lib.switching import SwitchRule

SEEDS = range(10_000)
"""Seeds that a run may have: a run's rows are drawn by its seed, and those of other purposes by seeds from 10,000 on."""


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
        learning_rate: highest; rises over the share `warmup` of the steps, then falls along a cosine to the share `min_rate` of it.
        micro_batch: rows for which a loss is made at once, of a batch that does not fit into memory; None: all.
        beta2, weight_decay: of AdamW.
    """

    size: ModelSize | Pretrained
    num_rows: int
    steps: int
    batch_size: int = 64
    learning_rate: float = 2e-3
    micro_batch: int | None = None
    beta2: float = 0.98
    weight_decay: float = 0.01
    warmup: float = 0.05
    min_rate: float = 0.0

    def __post_init__(self):
        _check_batch(self.batch_size, self.micro_batch)

    @property
    def bf16(self) -> bool:
        """Whether passes are made in bfloat16."""
        return isinstance(self.size, Pretrained) and self.size.bf16


@dataclass(frozen=True)
class RunConfig:
    """All that decides the numbers of one run, but for versions and machine.

    Attributes:
        preset, task, method, seed: as on the command line. The seed gives the initial student, the prompts, their
            order and the rows' seeds: the same for all methods.
        teacher: the start of the SHA-256 of its weights, where this project trained it; else its hub id or folder.
        initial_student: how the student is trained before distillation; with 0 steps it is taken as it is.
        num_prompts: rows of the training split that it is distilled on.
        steps, batch_size, micro_batch, learning_rate, beta2, weight_decay, warmup, min_rate: as in `SFTConfig`.
        eval_every: steps between evaluations.
        validation_rows, test_rows: how many rows each split has; without test rows the test is left out.
        traced_rows: validation prompts for which every evaluation keeps a rollout, token by token.
        rule: by which a policy that has a rule switches, and by which all students' own texts are judged.
        settings: of the method, by name: its `loss`, and what its policy has besides a rule (`top_k`, `fraction`, …).
        max_prompt_tokens, max_new_tokens: rows of training and validation that are longer are left out, and answers are cut
            (see `limited`); None: no row is left out, and answers are as long as the task says.
        variant: of a run that differs from the grid's, the study and its name there; "" for those of the grid.
        paired_with: the id of the grid's run that it differs from; "" for those of the grid.

    Raises:
        ValueError: for an unknown method or setting, a number out of its range, a batch that does not divide into
            micro-batches, and a student that would be an adapter.
    """

    preset: str
    task: str
    method: str
    seed: int
    teacher: str
    initial_student: SFTConfig
    num_prompts: int
    steps: int
    batch_size: int
    learning_rate: float
    eval_every: int
    validation_rows: int
    test_rows: int
    traced_rows: int
    rule: SwitchRule
    settings: tuple[tuple[str, Any], ...] | Mapping[str, Any] = ()
    micro_batch: int | None = None
    beta2: float = 0.98
    weight_decay: float = 0.01
    warmup: float = 0.05
    min_rate: float = 0.1
    max_prompt_tokens: int | None = None
    max_new_tokens: int | None = None
    variant: str = ""
    paired_with: str = ""

    def __post_init__(self):
        object.__setattr__(self, "settings", tuple(sorted(dict(self.settings).items())))
        self.resolve_method()  # which refuses what the method does not have
        if self.seed not in SEEDS:
            raise ValueError(f"a seed is a whole number from 0 to {SEEDS[-1]:,}, got {self.seed}.")
        for name in ("num_prompts", "steps", "batch_size", "eval_every", "validation_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}.")
        _check_batch(self.batch_size, self.micro_batch)
        if isinstance(self.initial_student.size, Pretrained) and self.initial_student.size.lora_rank:
            raise ValueError("a run trains all of its student: lora_rank is for teachers. RolloutTrainer takes peft students.")

    @property
    def id(self) -> str:
        """A readable name, with a hash of everything that decides the numbers."""
        return "-".join(filter(None, (self.task, self.method, self.variant, f"s{self.seed}", digest(self.deciding()))))

    @property
    def bf16(self) -> bool:
        """Whether passes are made in bfloat16."""
        return self.initial_student.bf16

    def resolve_method(self) -> Method:
        """The method with this run's settings."""
        known = method(self.method)
        rule = {"rule": self.rule} if hasattr(known.policy, "rule") else {}
        return known.with_settings(**rule, **dict(self.settings))

    def deciding(self) -> dict[str, Any]:
        """Everything that decides the numbers: settings that are nobody's but the method's own are in its policy."""
        resolved = self.resolve_method()
        told = {name: value for name, value in asdict(self).items() if name not in ("preset", "settings", "variant", "paired_with")}
        policy = {} if resolved.policy is None else {"class": type(resolved.policy).__name__} | vars(resolved.policy)
        policy["rule"] = "rule" in policy  # which stands beside it
        return told | {"policy": policy, "loss": resolved.loss, "data_share": resolved.data_share}

    def columns(self) -> dict[str, Any]:
        """The settings as columns of `runs.csv`: those of parts after a dot (`rule.floor`, `policy.top_k`, `initial.steps`)."""
        resolved = self.resolve_method()
        first = ("preset", "task", "method", "label", "seed", "variant", "paired_with", "loss")
        told = dict.fromkeys(first) | {field.name: getattr(self, field.name) for field in fields(self) if field.name != "settings"}
        told |= {"label": resolved.label, "loss": resolved.loss, "paired_with": self.paired_with or self.id}
        told |= {"initial": told.pop("initial_student")} | ({"policy": resolved.policy} if resolved.policy else {})
        flat = {key: value for name, value in told.items() for key, value in _flat(name, value).items()}
        return {name: value for name, value in flat.items() if not name.startswith("policy.rule.")}  # they stand as rule.*

    def changed(self, **changes: Any) -> RunConfig:
        """The same run with other settings; those of its rule (multiplier, window, min_history, floor) and of its method
        (loss, top_k, …) by their own names, too."""
        own, of_rule = ({field.name for field in fields(kind)} for kind in (RunConfig, SwitchRule))
        rule = replace(changes.pop("rule", self.rule), **{name: changes.pop(name) for name in of_rule & changes.keys()})
        of_method = {name: changes.pop(name) for name in changes.keys() - own}
        settings = dict(changes.pop("settings", self.settings)) | of_method
        return replace(self, rule=rule, settings=settings, **changes)


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Fields of dataclasses, and of those within them, by names with dots."""
    if is_dataclass(value):  # one without fields has no column
        parts = (_flat(f"{name}.{field.name}", getattr(value, field.name)) for field in fields(value))
        return {key: part for some in parts for key, part in some.items()}
    return {name: str(value) if isinstance(value, tuple) else value}


def _check_batch(batch_size: int, micro_batch: int | None) -> None:
    if micro_batch is not None and (micro_batch < 1 or batch_size % micro_batch):
        raise ValueError(f"a batch of {batch_size} rows does not divide into micro-batches of {micro_batch}.")
