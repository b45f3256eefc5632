"""The trainer as all trainings here use it: the same arguments, no printing of its own, and it goes on where it was killed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from math import floor
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback, TrainerState

from adaswitch_lib.experiments import sealed
from adaswitch_lib.experiments.config import RunConfig, SFTConfig
from adaswitch_lib.experiments.logs import logger
from adaswitch_lib.trainer import RolloutConfig


def arguments(folder: Path, seed: int, **settings: Any) -> RolloutConfig:
    """Trainer arguments that all our trainings share: one log line a step, no bars and no trackers of the trainer's own.

    Raises:
        RuntimeError: where several GPUs can be seen: the trainer would spread a batch over them and make it larger.
    """
    if torch.cuda.device_count() > 1:
        raise RuntimeError("a run takes one GPU: set CUDA_VISIBLE_DEVICES to the number of one.")
    return RolloutConfig(
        output_dir=str(folder),
        seed=seed,
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        save_total_limit=2,  # if the newest is damaged, there is one before it
        **settings,
    )


def optimisation(config: RunConfig | SFTConfig) -> dict[str, Any]:
    """The trainer arguments that a config decides: batches, optimiser, and the course of the learning rate."""
    at_once = config.micro_batch or config.batch_size
    return {
        "max_steps": config.steps,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": config.batch_size // at_once,
        "bf16": config.bf16,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": config.min_rate},
        "warmup_steps": floor(config.steps * config.warmup + 1e-9),
        "adam_beta2": config.beta2,
        "weight_decay": config.weight_decay,
    }


def quiet(trainer: Trainer, callbacks: Sequence[TrainerCallback]) -> None:
    """Our callbacks instead of the trainer's own printing of every step."""
    trainer.remove_callback(PrinterCallback)
    for callback in callbacks:
        trainer.add_callback(callback)


def train_or_resume(trainer: Trainer, folder: Path) -> PreTrainedModel:
    """Train, from the last whole checkpoint if there is one, and return the model in eval mode."""
    trainer.add_callback(_Seal())
    checkpoint = last_checkpoint(folder)
    if checkpoint is not None and _step(checkpoint) >= trainer.args.max_steps:
        # the trainer would take one step more before it looks at the count
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        trainer._load_from_checkpoint(str(checkpoint))  # knows whole models and adapters
        return trainer.model.eval()
    trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    return trainer.model.eval()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole. Newer ones, which are not, are removed, and the log says so."""
    numbered = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    broken, whole = [], None
    for checkpoint in sorted(numbered, key=_step, reverse=True):
        if (wrong := sealed.damage(checkpoint)) is None:
            whole = checkpoint
            break
        broken.append(f"{checkpoint.name} is damaged ({wrong})")
        shutil.rmtree(checkpoint)
    if broken:
        logger.warning("%s: %s; going on from %s", folder.name, ", ".join(broken), whole.name if whole else "the beginning")
    return whole


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


class _Seal(TrainerCallback):
    """Only a checkpoint that was written whole counts: a killed trainer leaves halves, and a disk may lose the end of a file."""

    def on_save(self, args, state, control, **kwargs: Any) -> None:
        sealed.seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
