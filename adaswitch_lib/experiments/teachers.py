"""Teachers of the tasks that this project trains: load one, or train it again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from adaswitch_lib.experiments import sealed
from adaswitch_lib.experiments.config import ModelSize, SFTConfig
from adaswitch_lib.experiments.evaluation import evaluate
from adaswitch_lib.experiments.locks import locked
from adaswitch_lib.experiments.pretraining import train_on_data
from adaswitch_lib.experiments.recipes import LIMITS, TEACHERS, teacher_digest, teacher_folder
from adaswitch_lib.experiments.table_files import DamagedFile, digest
from adaswitch_lib.experiments.tasks import TASKS, limited, micro_tokenizer
from adaswitch_lib.models import load_model, with_weights_in

TEACHER_SEED = 0


def load_teacher(task: str, name: str = "", dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A task's teacher in eval mode, and the tokenizer.

    Args:
        name: hub id or folder, with a / in it; else the digest of the one that this project trained; "": any such.
        dtype: of the weights.

    Raises:
        FileNotFoundError: if it has not been trained; the message says how to.
        ValueError: if it is another one than `name` says, or cannot be loaded.
        DamagedFile: if a file is not what was written.
    """
    folder, again = teacher_folder(task), f"`adaswitch teachers --task {task}`"
    if "/" in name:
        return load_model(name, dtype=dtype)
    if name not in ("", teacher_digest(task)):
        raise ValueError(
            f"{name!r} is not the teacher of {task}, whose digest is {teacher_digest(task)!r}; a hub id or a folder has a / in it."
        )
    if not folder.is_dir():
        raise FileNotFoundError(f"no teacher in {folder}: train it with {again}.")
    if wrong := sealed.damage(folder):
        raise DamagedFile(f"the teacher in {folder} is damaged ({wrong}): restore it from git, or train it again with {again}.")
    if (folder / "model.safetensors").is_file():
        return load_model(folder, dtype=dtype)
    from peft import PeftModel  # an optional extra: pip install peft

    model, tokenizer = load_model(TEACHERS[task].size.source)
    return with_weights_in(PeftModel.from_pretrained(model, folder).merge_and_unload().eval(), dtype), tokenizer


def train_teacher(task: str, callbacks: Sequence[TrainerCallback] = ()) -> Path:
    """Train the teacher of a task and save it with its card to its `teacher_folder`, whole or not at all.

    Raises:
        ValueError: for a task without a teacher of ours.
    """
    if task not in TEACHERS:
        raise ValueError(f"no teacher for {task!r}: use one of {', '.join(TEACHERS)}.")
    folder, config = teacher_folder(task), TEACHERS[task]
    work, done = (folder.with_name(f"{task}.{name}") for name in (f"work-{digest(asdict(config))}", "tmp"))
    with locked(folder):
        is_micro = isinstance(config.size, ModelSize)
        tokenizer = micro_tokenizer() if is_micro else load_model(config.size.source)[1]
        learned = limited(TASKS[task], tokenizer, *LIMITS.get(task, ()))
        rows = (learned.teacher_rows or learned.load)("train", config.num_rows, TEACHER_SEED)
        watch = learned.load("validation", 200 if is_micro else 24, TEACHER_SEED)

        def scores(model: PreTrainedModel) -> dict[str, float]:
            return evaluate(model, tokenizer, learned, watch).mean(numeric_only=True).to_dict()

        model = train_on_data(config, rows, tokenizer, TEACHER_SEED, work, callbacks, scores)
        shutil.rmtree(done, ignore_errors=True)
        if is_micro:
            tokenizer.save_pretrained(done)
        else:
            model.peft_config["default"].base_model_name_or_path = config.size.source  # it would name a folder of this machine
        model.save_pretrained(done, **({} if is_micro else {"save_embedding_layers": False}))  # it would ask the hub
        model = model if is_micro else model.merge_and_unload()
        (done / "README.md").write_text(_card(task, config, model, tokenizer), encoding="utf-8")
        sealed.seal(done)
        if folder.exists():
            os.replace(folder, work / "before")
        os.replace(done, folder)
        shutil.rmtree(work)
    return folder


def _card(task: str, config: SFTConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """What a teacher is, how it was made, and how well it answers."""
    size = config.size
    if isinstance(size, ModelSize):
        what = [
            f"A Llama of {size.layers} layers x {size.width}, {model.num_parameters():,} parameters, trained from",
            f"random weights on generated data (seed {TEACHER_SEED}).",
        ]
    else:
        what = [
            f"A LoRA adapter of rank {size.lora_rank} for {size.source} (SmolLM2-135M-Instruct, Apache-2.0), trained on {task}.",
            "The licence of DialogSum is CC BY-NC-SA 4.0: not for commercial use, and so is what was learned from it.",
        ]
    lines = [
        f"# Teacher of {task}",
        "",
        *what,
        f"{config.num_rows:,} rows, {config.steps:,} steps of {config.batch_size} rows, highest rate {config.learning_rate}.",
        f"Rebuilt by `adaswitch teachers --task {task}`. Scores of greedy answers:",
        "",
        "| task | split | rows | scores |",
        "|---|---|---|---|",
    ]
    for tested in TASKS.values():
        if tested.trained_as == task:
            tested = limited(tested, tokenizer, *LIMITS.get(task, ()))
            # the reference scores of the preset have a real teacher's test, with its answers
            for split in ("validation", "test") if isinstance(size, ModelSize) else ("validation",):
                rows = tested.load(split, 500 if isinstance(size, ModelSize) else 100, TEACHER_SEED)
                scores = evaluate(model, tokenizer, tested, rows).mean(numeric_only=True).round(3).to_dict()
                lines.append(f"| {tested.name} | {split} | {len(rows)} | {json.dumps(scores)} |")
    return "\n".join([*lines, ""])
