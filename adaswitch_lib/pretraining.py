"""Micro models before distillation: trained on data from random weights. The teachers ship with the package."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from filelock import FileLock
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
)

from adaswitch_lib.config import SHIPPED, ModelSize, SFTConfig
from adaswitch_lib.evaluation import examine
from adaswitch_lib.methods import METHODS
from adaswitch_lib.presets import TEACHERS
from adaswitch_lib.tasks import TASKS, TEACHER_ROWS, micro_tokenizer
from adaswitch_lib.training import DistillationConfig, DistillationTrainer, encode_rows

TEACHER_SEED = 0
POSITIONS = 256


def new_model(size: ModelSize, tokenizer: PreTrainedTokenizerBase, seed: int) -> LlamaForCausalLM:
    """A Llama with random weights. The global random state is not touched."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=4 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=POSITIONS,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def arguments(folder: Path, seed: int, **settings: Any) -> DistillationConfig:
    """Trainer arguments that all our runs share: one log line a step, no bars and no trackers of the trainer's own."""
    return DistillationConfig(
        output_dir=str(folder),
        seed=seed,
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        adam_beta2=0.98,
        weight_decay=0.01,
        **settings,
    )


def quiet(trainer: Trainer, callbacks: Sequence[TrainerCallback]) -> None:
    """Our callbacks instead of the trainer's own printing of every step."""
    trainer.remove_callback(PrinterCallback)
    for callback in callbacks:
        trainer.add_callback(callback)


def train_on_data(
    config: SFTConfig,
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    folder: Path,
    callbacks: Sequence[TrainerCallback] = (),
    examine: Callable[[PreTrainedModel], dict[str, float]] | None = None,
) -> LlamaForCausalLM:
    """A model of `config.size`, trained on the rows' completions from random weights.

    Args:
        folder: for checkpoints, ten over the run; a run that was killed goes on from the last. The caller removes it.
    """
    trainer = DistillationTrainer(
        new_model(config.size, tokenizer, seed),
        None,
        METHODS["sft"],
        arguments(
            folder,
            seed,
            max_steps=config.steps,
            per_device_train_batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=config.steps // 20,
            save_steps=max(1, config.steps // 10),
            save_total_limit=1,
            eval_strategy="steps" if examine else "no",
            eval_steps=max(1, config.steps // 10),
        ),
        encode_rows(rows, tokenizer),
        tokenizer,
        examine,
    )
    quiet(trainer, callbacks)
    return train_or_resume(trainer, folder)


def train_or_resume(trainer: Trainer, folder: Path) -> PreTrainedModel:
    """Train, from the last whole checkpoint if there is one, and return the model in eval mode."""
    checkpoint = last_checkpoint(folder)
    if checkpoint is not None and _step(checkpoint) >= trainer.args.max_steps:
        # the trainer would take one step more before it looks at the count
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        return AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    return trainer.model.eval()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written whole; halves are removed."""
    whole = None
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=_step):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())  # the trainer writes it last
            whole = checkpoint
        except (OSError, json.JSONDecodeError):
            shutil.rmtree(checkpoint)
    return whole


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def load_teacher(task: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The teacher of a micro task that ships with the package, in eval mode, and the tokenizer.

    Raises:
        FileNotFoundError: if it is not there; the message says how to train it.
    """
    folder = SHIPPED / task
    if not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(f"no teacher in {folder}: train it with `make teachers`.")
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder, padding_side="left")


def train_teacher(task: str, folder: Path, callbacks: Sequence[TrainerCallback] = ()) -> Path:
    """Train the teacher of a micro task and save it with its card to `folder`/<task>, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / f"{task}.work"
    with FileLock(folder / f"{task}.lock"):
        config, tokenizer = TEACHERS[task], micro_tokenizer()
        rows = TEACHER_ROWS[task]("train", config.num_rows, TEACHER_SEED)
        watch = TASKS[task].load("validation", 200, TEACHER_SEED)

        def scores(model: PreTrainedModel) -> dict[str, float]:
            return examine(model, tokenizer, TASKS[task], watch).mean(numeric_only=True).to_dict()

        model = train_on_data(config, rows, tokenizer, TEACHER_SEED, work, callbacks, scores)
        done = folder / f"{task}.tmp"
        model.save_pretrained(done)
        tokenizer.save_pretrained(done)
        (done / "README.md").write_text(_card(task, config, model, tokenizer), encoding="utf-8")
        if (folder / task).exists():
            os.replace(folder / task, work / "before")
        os.replace(done, folder / task)
        shutil.rmtree(work)
    return folder / task


def _card(task: str, config: SFTConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    lines = [
        f"# Teacher of {task}",
        "",
        f"A Llama of {config.size.layers} layers x {config.size.width}, {model.num_parameters():,} parameters, trained from",
        f"random weights on generated data (seed {TEACHER_SEED}): {config.num_rows:,} rows, {config.steps:,} steps of",
        f"{config.batch_size} rows, highest learning rate {config.learning_rate}. Rebuilt by `make teachers`.",
        "Scores of greedy answers:",
        "",
        "| task | split | rows | scores |",
        "|---|---|---|---|",
    ]
    for examined in TASKS.values():
        if examined.trained_as == task:
            for split in ("validation", "test"):
                rows = examined.load(split, 500, TEACHER_SEED)
                scores = examine(model, tokenizer, examined, rows).mean(numeric_only=True).round(3).to_dict()
                lines.append(f"| {examined.name} | {split} | {len(rows)} | {json.dumps(scores)} |")
    return "\n".join([*lines, ""])
