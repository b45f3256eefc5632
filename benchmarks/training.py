"""Seconds a training step of a preset's pair by six methods, and by TRL's GKDTrainer (λ = 1) on the same models and data.

    python benchmarks/training.py [--preset micro] [--steps 6] [--turns 5] [--threads 1] [--out results/bench]

On each task the methods and TRL take turns, a few steps each, with the settings of the preset and an initial student.
Numbers are ratios of medians to a step of KD and of on-policy KD; claim C6 is judged by the ratios of the turns. The preset
smollm2 needs DialogSum, from the hub or from the folder that ADASWITCH_DATA names.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from copy import deepcopy
from pathlib import Path

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import pandas as pd
import torch
from transformers import TrainerCallback
from trl.experimental.gkd import GKDConfig, GKDTrainer

from adaswitch_lib import RolloutTrainer, encode_rows
from adaswitch_lib.experiments import PRESETS
from adaswitch_lib.experiments.grid import Preset
from adaswitch_lib.experiments.logs import log_lines
from adaswitch_lib.experiments.preparation import prepare
from adaswitch_lib.experiments.records import write_table
from adaswitch_lib.experiments.resuming import arguments, quiet

COMMON = dict(learning_rate=1e-6, save_strategy="no")
"""So small a rate that the student, and with it lengths and switches, stay what they are."""

TIMED = ("sft", "kd", "onpolicy", "skd", "adaswitch", "switch")
TRL = "onpolicy, TRL"


class StepTimes(TrainerCallback):
    """Seconds from the end of one step to the end of the next; the first is warming up."""

    def __init__(self):
        self.ends: list[float] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        return [b - a for a, b in zip(self.ends, self.ends[1:], strict=False)]


def trl_collator(pad: int):
    """Rows of ids to what GKDTrainer expects of its collator: prompts apart, and prompt with completion, padded on the left."""

    def left(rows: list[list[int]], fill: int) -> torch.Tensor:
        width = max(map(len, rows))
        return torch.tensor([[fill] * (width - len(row)) + row for row in rows])

    def collate(rows):
        prompts = [row["prompt_ids"] for row in rows]
        whole = [row["prompt_ids"] + row["completion_ids"] for row in rows]
        labels = [[-100] * len(row["prompt_ids"]) + row["completion_ids"] for row in rows]
        return {
            "prompts": left(prompts, pad),
            "prompt_attention_mask": left([[1] * len(row) for row in prompts], 0),
            "input_ids": left(whole, pad),
            "attention_mask": left([[1] * len(row) for row in whole], 0),
            "labels": left(labels, -100),
        }

    return collate


def in_turns(preset: Preset, task_name: str, turns: int, steps: int) -> list[dict]:
    """Seconds of every timed step: {task, method, turn, seconds}."""
    config = preset.config(task_name, "adaswitch", 0)
    prepared = prepare(config)
    (teacher, initial, tokenizer), task = prepared.pair, prepared.task
    rows = encode_rows(prepared.rows, tokenizer)
    common = COMMON | {"per_device_train_batch_size": config.batch_size, "bf16": config.bf16, "max_steps": steps + 1}

    def ours(name: str, folder: str):
        method = preset.config(task_name, name, 0).resolve_method()
        settings = arguments(folder, 0, max_new_tokens=task.max_new_tokens, **common)
        return RolloutTrainer(deepcopy(initial), teacher, method, settings, rows, tokenizer)

    def theirs(folder: str):
        args = GKDConfig(
            output_dir=folder,
            seed=0,
            lmbda=1.0,
            beta=0.0,
            temperature=1.0,
            max_new_tokens=task.max_new_tokens,
            use_cpu=True,
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            **common,
        )
        collator = trl_collator(tokenizer.pad_token_id)
        return GKDTrainer(deepcopy(initial), teacher, args, collator, train_dataset=rows, processing_class=tokenizer)

    seconds = []
    for turn in range(turns):
        for name in (*TIMED, TRL):
            times = StepTimes()
            with tempfile.TemporaryDirectory() as folder:
                trainer = theirs(folder) if name == TRL else ours(name, folder)
                quiet(trainer, [times])
                trainer.train()
            seconds += [{"task": task_name, "method": name, "turn": turn, "seconds": value} for value in times.seconds]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6, help="timed steps in a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--preset", choices=("micro", "smollm2"), default="micro")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    log_lines(logging.WARNING)
    preset = PRESETS[chosen.preset]
    seconds = [line for task in preset.tasks for line in in_turns(preset, task, chosen.turns, chosen.steps)]
    frame = pd.DataFrame(seconds)
    chosen.out.mkdir(parents=True, exist_ok=True)
    settings = {"threads": chosen.threads, "preset": chosen.preset, "student": "initial"}
    write_table(frame, chosen.out / f"training_seconds_{chosen.preset}.csv", **settings)
    medians = frame.groupby(["task", "method"], sort=False).seconds.median()
    parts = {f"of {name}": medians.div(medians.xs(name, level="method"), level="task") for name in ("kd", "onpolicy")}
    table = pd.DataFrame({"seconds": medians.round(3)} | {name: part.round(2) for name, part in parts.items()})
    write_table(table.reset_index(), chosen.out / f"training_{chosen.preset}.csv", **settings)
    print(table.to_string())


if __name__ == "__main__":
    main()
