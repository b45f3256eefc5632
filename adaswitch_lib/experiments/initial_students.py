"""Initial students: what methods begin with, the same for all of them; one for each task and seed, trained when first asked for."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path

from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from adaswitch_lib.experiments import sealed
from adaswitch_lib.experiments.config import Pretrained, RunConfig
from adaswitch_lib.experiments.locks import locked
from adaswitch_lib.experiments.logs import logger
from adaswitch_lib.experiments.paths import results_dir
from adaswitch_lib.experiments.pretraining import train_on_data, untrained
from adaswitch_lib.experiments.progress import StepBar
from adaswitch_lib.experiments.table_files import digest
from adaswitch_lib.experiments.tasks.task import Task

ROWS_SEED = 2 * 10_000
"""Added to a run's seed, to draw its rows apart from those to distil on and those of the teacher. Of generated tasks they
differ; of real data they come from one pool, and some are the same."""


def initial_student(config: RunConfig, task: Task, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The student before distillation. One that was damaged on disk is trained again, and the log says so.

    Args:
        task: that of the run, with its lengths.
    """
    folder = initial_student_folder(config)
    work, new = folder.with_suffix(".sft"), folder.with_suffix(".tmp")
    with locked(folder):  # whoever comes second waits for the first
        if folder.is_dir() and (wrong := sealed.damage(folder)):
            logger.warning("%s is damaged (%s): it is trained again", folder, wrong)
            shutil.rmtree(folder)
        if not folder.is_dir():
            if config.initial_student.steps:
                rows = task.load("train", config.initial_student.num_rows, ROWS_SEED + config.seed)
                with StepBar(folder.name, config.initial_student.steps) as bar:
                    model = train_on_data(config.initial_student, rows, tokenizer, config.seed, work, [bar])
            else:
                model = untrained(config.initial_student.size, tokenizer, config.seed)
            shutil.rmtree(new, ignore_errors=True)
            model.save_pretrained(new)
            sealed.seal(new)
            os.replace(new, folder)
            shutil.rmtree(work, ignore_errors=True)
    return AutoModelForCausalLM.from_pretrained(folder)


def initial_student_folder(config: RunConfig) -> Path:
    """Where that student is kept."""
    deciding = asdict(config.initial_student)
    if isinstance(config.initial_student.size, Pretrained):  # its rows are those that fit, its vocabulary is the teacher's
        deciding |= {"fits": [config.max_prompt_tokens, config.max_new_tokens], "teacher": config.teacher}
    return results_dir(config.preset) / "work" / f"initial-{config.task}-s{config.seed}-{digest(deciding)}"
