"""Training on data, before distillation: of teachers, and of students at their start."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
)

from adaswitch_lib.data import encode_rows
from adaswitch_lib.experiments.config import ModelSize, Pretrained, SFTConfig
from adaswitch_lib.methods import METHODS
from adaswitch_lib.models import check_shared_vocabulary, load_model
from adaswitch_lib.trainer import RolloutConfig, RolloutTrainer

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


def untrained(size: ModelSize | Pretrained, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """What training on data starts from. With an adapter, only that is trained.

    Raises:
        ModuleNotFoundError: where an adapter is asked for and peft is missing.
    """
    if isinstance(size, ModelSize):
        return new_model(size, tokenizer, seed)
    model, own = load_model(size.source, size.layers)
    check_shared_vocabulary(model, model, tokenizer, own)
    if not size.lora_rank:
        return model
    from peft import LoraConfig, get_peft_model  # an optional extra: pip install peft

    adapter = LoraConfig(r=size.lora_rank, lora_alpha=2 * size.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, adapter)


def arguments(folder: Path, seed: int, **settings: Any) -> RolloutConfig:
    """Trainer arguments that all our runs share: one log line a step, no bars and no trackers of the trainer's own.

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
    scorer: Callable[[PreTrainedModel], dict[str, float]] | None = None,
) -> PreTrainedModel:
    """A model of `config.size`, trained on the rows' completions.

    Args:
        folder: for checkpoints, ten over the run; a run that was killed goes on from the last. The caller removes it.
    """
    rows = encode_rows(rows, tokenizer)
    is_pretrained = isinstance(config.size, Pretrained)
    parts = 2 if is_pretrained and config.batch_size % 2 == 0 else 1  # the same step; whole, the SmolLM2 teacher took 7 GB
    trainer = RolloutTrainer(
        untrained(config.size, tokenizer, seed),
        None,
        METHODS["sft"],
        arguments(
            folder,
            seed,
            max_steps=config.steps,
            per_device_train_batch_size=config.batch_size // parts,
            gradient_accumulation_steps=parts,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=config.steps // 20,
            save_steps=max(1, config.steps // 10),
            save_total_limit=1,
            eval_strategy="steps" if scorer else "no",
            eval_steps=max(1, config.steps // 10),
            bf16=is_pretrained and config.size.bf16,
            max_new_tokens=max(map(len, rows["completion_ids"])),
        ),
        rows,
        tokenizer,
        scorer,
    )
    quiet(trainer, callbacks)
    return train_or_resume(trainer, folder)


def train_or_resume(trainer: Trainer, folder: Path) -> PreTrainedModel:
    """Train, from the last whole checkpoint if there is one, and return the model in eval mode."""
    checkpoint = last_checkpoint(folder)
    if checkpoint is not None and _step(checkpoint) >= trainer.args.max_steps:
        # the trainer would take one step more before it looks at the count
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        trainer._load_from_checkpoint(str(checkpoint))  # knows whole models and adapters
        return trainer.model.eval()
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
