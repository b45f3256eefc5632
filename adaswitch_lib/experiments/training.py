"""The second room of a run: distillation, with an evaluation every few steps."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import PreTrainedModel, TrainerCallback

from adaswitch_lib.data import encode_rows
from adaswitch_lib.experiments.evaluation import evaluate
from adaswitch_lib.experiments.logs import logger
from adaswitch_lib.experiments.preparation import Prepared
from adaswitch_lib.experiments.progress import StepBar
from adaswitch_lib.experiments.resuming import arguments, last_checkpoint, optimisation, quiet, train_or_resume
from adaswitch_lib.experiments.rollout_analysis import look_at_texts, trace
from adaswitch_lib.rollout import NonFiniteLogits, Source
from adaswitch_lib.trainer import RolloutTrainer


@dataclass(frozen=True)
class Trained:
    """What a training leaves.

    Attributes:
        student: in eval mode; None where it collapsed to NaN or infinite logits, which is a result.
        history: the trainer's log, a row an entry.
        traces: the rollouts that evaluations kept, a row a token.
    """

    student: PreTrainedModel | None
    history: pd.DataFrame
    traces: pd.DataFrame


def train(prepared: Prepared, work: Path) -> Trained:
    """Distil the student; from the last checkpoint in `work`, if there is one.

    Raises:
        NonFiniteLogits: of a teacher. A student's are its collapse.
    """
    config, (teacher, student, tokenizer), task = prepared.config, prepared.pair, prepared.task
    settings = arguments(
        work,
        config.seed,
        eval_strategy="steps",
        eval_on_start=last_checkpoint(work) is None,
        eval_steps=config.eval_every,
        save_steps=config.eval_every,
        max_new_tokens=task.max_new_tokens,
        **optimisation(config),
    )

    def scores(student: PreTrainedModel) -> dict[str, float]:
        return evaluate(student, tokenizer, task, prepared.validation).mean(numeric_only=True).to_dict()

    with StepBar(config.id, config.steps) as bar:
        rows = encode_rows(prepared.rows, tokenizer)
        trainer = RolloutTrainer(student, teacher, prepared.method, settings, rows, tokenizer, scores)
        texts = _Texts(trainer, prepared)
        quiet(trainer, [bar, texts, _GivesBack()])
        texts.load(last_checkpoint(work))
        try:
            student = train_or_resume(trainer, work)
        except NonFiniteLogits as error:
            if error.of is Source.TEACHER:
                raise
            logger.warning("%s: collapsed at step %d: %s", config.id, trainer.state.global_step, error)
            student = None
    return Trained(student, pd.DataFrame(trainer.state.log_history), texts.traces)


class _Texts(TrainerCallback):
    """At every evaluation a look at texts for the validation prompts, always with the same seeds; some are kept token by token,
    and go into the checkpoints."""

    def __init__(self, trainer: RolloutTrainer, prepared: Prepared):
        self.trainer, self.prepared, self.traces = trainer, prepared, pd.DataFrame()

    def load(self, checkpoint: Path | None) -> None:
        """Go on from what a checkpoint has."""
        if checkpoint is not None and (checkpoint / "traces.parquet").is_file():
            self.traces = pd.read_parquet(checkpoint / "traces.parquet")

    def on_evaluate(self, args, state, control, **kwargs: Any) -> None:
        trainer, config = self.trainer, self.prepared.config
        if config.traced_rows == 0:
            return
        with trainer.accelerator.autocast():
            found, rollout = look_at_texts(
                trainer.method.policy,
                trainer.teacher,
                trainer.model,
                trainer.processing_class,
                self.prepared.task,
                self.prepared.validation,
                config.rule,
                args.sampling_temperature,
            )
        trainer.log({f"eval_{name}": value for name, value in found.items()})
        new = trace(rollout, trainer.processing_class, state.global_step, config.traced_rows)
        self.traces = pd.concat([self.traces, new])

    def on_save(self, args, state, control, **kwargs: Any) -> None:
        if len(self.traces):
            self.traces.to_parquet(Path(args.output_dir) / f"checkpoint-{state.global_step}" / "traces.parquet")


class _GivesBack(TrainerCallback):
    """After each step the C library gives freed memory back to the system. Left to itself it keeps it in pieces, since texts
    differ in length: a process of SmolLM2's runs grew to 8.6 GB, of which 2 were in use."""

    def __init__(self):
        self.trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # glibc's

    def on_step_end(self, args, state, control, model, **kwargs: Any) -> None:
        if self.trim is not None and model.num_parameters() > 10_000_000:  # a small model's steps are too short for it
            self.trim(0)
