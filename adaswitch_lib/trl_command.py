"""`adaswitch train`: a pair of one's own, from options or a YAML file. Needs the extra `trl`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from datasets import Dataset, IterableDataset, load_dataset
from trl import ModelConfig, ScriptArguments, TrlParser, get_peft_config, get_quantization_config

from adaswitch_lib.data import prompt_and_completion
from adaswitch_lib.trl import AdaSwitchConfig, AdaSwitchTrainer

FORMATS = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}


@dataclass
class PairArguments(ScriptArguments):
    """Which models, and TRL's own: which data."""

    model: str | None = field(default=None, metadata={"help": "The student: a hub id or a folder; also --model_name_or_path."})
    teacher_model: str | None = field(
        default=None, metadata={"help": "The teacher: a hub id or a folder; also --teacher_model_name_or_path."}
    )


class _Parser(TrlParser):
    def error(self, message: str) -> NoReturn:
        """One line; argparse would print some hundred options first."""
        raise ValueError(f"{message}; {self.prog} --help lists what there is.")


def train(arguments: Sequence[str]) -> None:
    """Train by the options, and save into --output_dir.

    Raises:
        ValueError: for what cannot be trained; the message says what to do.
    """
    parser = _Parser((PairArguments, AdaSwitchConfig, ModelConfig), prog="adaswitch train")
    pair, config, loading = parser.parse_args_and_config(arguments)
    model = pair.model or loading.model_name_or_path
    teacher = pair.teacher_model or config.teacher_model_name_or_path
    if not (model and teacher and pair.dataset_name):
        raise ValueError("name both models and the data: --model, --teacher_model, --dataset_name.")
    weights = {"dtype": loading.dtype, "attn_implementation": loading.attn_implementation}
    config.model_init_kwargs = weights | {"revision": loading.model_revision} | (config.model_init_kwargs or {})
    config.teacher_model_init_kwargs = weights | (config.teacher_model_init_kwargs or {})
    trainer = AdaSwitchTrainer(
        model,
        teacher,
        config,
        load_prompts(pair, pair.dataset_train_split),
        load_prompts(pair, pair.dataset_test_split) if config.eval_strategy != "no" else None,
        quantization_config=get_quantization_config(loading),
        peft_config=get_peft_config(loading),
    )
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    trainer.save_model()


def load_prompts(data: ScriptArguments, split: str) -> Dataset | IterableDataset:
    """Rows with a column `prompt`, from the hub, a folder or one file; of chats with their answers it is what comes before.

    Raises:
        ValueError: for a file of another kind, and for rows that have neither `prompt` nor `messages`.
    """
    file, source = Path(data.dataset_name), {"split": split, "streaming": data.dataset_streaming}
    if not file.is_file():
        rows = load_dataset(data.dataset_name, data.dataset_config, **source)
    elif file.suffix in FORMATS:
        rows = load_dataset(FORMATS[file.suffix], data_files=str(file), **source)
    else:
        raise ValueError(f"{file} must be one of {', '.join(FORMATS)}.")
    columns = rows.column_names or list(next(iter(rows)))
    if "prompt" in columns:
        return rows
    return rows.map(lambda row: {"prompt": prompt_and_completion(row)[0]}, remove_columns=columns)
