"""CPU seconds of a training step by AdaSwitchTrainer, and by TRL's own DistillationTrainer on the same models and prompts.

    python benchmarks/trl_step.py [--rows 16] [--tokens 64] [--steps 3] [--turns 5] [--threads 1] [--out results/bench]

They take turns. CPU seconds, since other work on the machine then counts less. With OnPolicy both do the same: the student writes,
both models read, the student learns. Weights are random and hardly learn, so that texts keep their length; EOS is one of 8,192 ids,
and rarely comes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset
from random_pairs import word_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, TrainerCallback
from trl import DistillationConfig, DistillationTrainer

from adaswitch_lib import AdaSwitch, OnPolicy, Pair
from adaswitch_lib.experiments.records import write_table
from adaswitch_lib.trl import AdaSwitchConfig, AdaSwitchTrainer

WORDS = 8192
POLICIES = {"TRL": None, "onpolicy": OnPolicy(), "adaswitch": AdaSwitch()}


def new_pair() -> Pair:
    torch.manual_seed(0)
    sizes = {"vocab_size": WORDS, "num_attention_heads": 4, "eos_token_id": 1, "pad_token_id": 0}
    models = (
        LlamaForCausalLM(LlamaConfig(hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers, **sizes))
        for width, layers in ((256, 6), (128, 4))
    )
    return Pair(*models, word_tokenizer(WORDS))


def now() -> float:
    """Seconds: of this process's CPU time; on a GPU of the wall clock, when it is done."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


class Clock(TrainerCallback):
    """The seconds of each step: writing, both models' passes, the update."""

    def __init__(self):
        self.seconds = []

    def on_step_begin(self, *_, **__):
        self.start = now()

    def on_step_end(self, *_, **__):
        self.seconds.append(now() - self.start)


def step_seconds(name: str, pair: Pair, rows: int, tokens: int, steps: int, prompt: int = 16, **more) -> list[float]:
    """Of all steps but the first."""
    teacher, student, tokenizer = pair
    words = torch.randint(3, len(tokenizer), (4 * rows, prompt), generator=torch.Generator().manual_seed(0))
    prompts = Dataset.from_dict({"prompt": [" ".join(f"w{word}" for word in prompt) for prompt in words.tolist()]})
    with tempfile.TemporaryDirectory() as folder:
        settings = dict(
            per_device_train_batch_size=rows,
            max_steps=steps + 1,
            max_completion_length=tokens,
            beta=0.0,
            learning_rate=1e-6,
            logging_steps=1,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            **{"use_cpu": True} | more,
        )
        ours = POLICIES[name] is not None
        args = (AdaSwitchConfig if ours else DistillationConfig)(folder, **settings)
        common = dict(args=args, train_dataset=prompts, processing_class=tokenizer)
        if ours:
            trainer = AdaSwitchTrainer(student, teacher, policy=POLICIES[name], **common)
        else:
            trainer = DistillationTrainer(student, teacher, **common)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(clock := Clock())
        trainer.train()
    return clock.seconds[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in {"rows": 16, "tokens": 64, "steps": 3, "turns": 5, "threads": 1}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    warnings.simplefilter("ignore")  # of names that TRL still uses
    turns = [
        {name: pd.Series(step_seconds(name, new_pair(), chosen.rows, chosen.tokens, chosen.steps)).median() for name in POLICIES}
        for _ in range(chosen.turns)
    ]
    seconds = pd.DataFrame(turns)
    ratios = seconds.div(seconds["TRL"], axis=0)
    table = pd.DataFrame({"CPU seconds": seconds.median(), "of TRL": ratios.median(), "least": ratios.min(), "most": ratios.max()})
    table = table.round(3).rename_axis("trainer").reset_index()
    chosen.out.mkdir(parents=True, exist_ok=True)
    settings = {key: value for key, value in vars(chosen).items() if key != "out"} | {"load_average": os.getloadavg()[1]}
    write_table(table, chosen.out / "trl_step.csv", **settings)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
