"""The first room of a run: its models, and the rows that it learns from and is evaluated on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from adaswitch_lib.experiments.config import RunConfig
from adaswitch_lib.experiments.initial_students import initial_student
from adaswitch_lib.experiments.tasks import TASKS, limited
from adaswitch_lib.experiments.tasks.task import Task
from adaswitch_lib.experiments.teachers import load_teacher
from adaswitch_lib.methods import Method
from adaswitch_lib.models import Pair, check_shared_vocabulary

ROWS_SEED = 10_000
"""Added to a run's seed, to draw the rows that it distils on; see `initial_students`."""


@dataclass(frozen=True)
class Prepared:
    """What a run begins with.

    Attributes:
        config: of the run.
        method: with the run's settings.
        pair: the teacher, and the student before distillation.
        task: the one that is trained, with the run's lengths.
        rows, validation: of that task.
        tested: the tasks that its students are tested on, that one first.
    """

    config: RunConfig
    method: Method
    pair: Pair
    task: Task
    rows: Dataset
    validation: Dataset
    tested: tuple[Task, ...]


def prepare(config: RunConfig) -> Prepared:
    """Load what a run needs; the initial student is trained if nobody has asked for it before."""
    pair = load_run_pair(config)
    tested = tested_tasks(config, pair.tokenizer)
    task = tested[0]
    rows = task.load("train", config.num_prompts, ROWS_SEED + config.seed)
    validation = task.load("validation", config.validation_rows, 0)
    return Prepared(config, config.resolve_method(), pair, task, rows, validation, tested)


def load_run_pair(config: RunConfig) -> Pair:
    """The teacher, and the student before distillation; on the GPU if there is one."""
    teacher, tokenizer = load_teacher(config.task, config.teacher, torch.bfloat16 if config.bf16 else torch.float32)
    student = initial_student(config, _limited(config, tokenizer, TASKS[config.task]), tokenizer)
    check_shared_vocabulary(teacher, student, tokenizer, tokenizer)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Pair(teacher.to(device), student.to(device), tokenizer)


def tested_tasks(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> tuple[Task, ...]:
    """The tasks that a run's students are tested on, the trained one first, with the run's lengths."""
    tasks = [task for task in TASKS.values() if task.trained_as == config.task]
    return tuple(_limited(config, tokenizer, task) for task in sorted(tasks, key=lambda task: task.name != config.task))


def _limited(config: RunConfig, tokenizer: PreTrainedTokenizerBase, task: Task) -> Task:
    return limited(task, tokenizer, config.max_prompt_tokens, config.max_new_tokens)
