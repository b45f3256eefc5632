"""Training on data, before distillation: of teachers, and of initial students."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from adaswitch_lib.data import encode_rows
from adaswitch_lib.experiments.config import ModelSize, Pretrained, SFTConfig
from adaswitch_lib.experiments.resuming import arguments, optimisation, quiet, train_or_resume
from adaswitch_lib.methods import METHODS
from adaswitch_lib.models import check_shared_vocabulary, load_model
from adaswitch_lib.trainer import RolloutTrainer

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
        ValueError: for a model that cannot be loaded; the message names it.
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
    every = max(1, config.steps // 10)
    trainer = RolloutTrainer(
        untrained(config.size, tokenizer, seed),
        None,
        METHODS["sft"],
        arguments(
            folder,
            seed,
            save_steps=every,
            eval_strategy="steps" if scorer else "no",
            eval_steps=every,
            max_new_tokens=max(map(len, rows["completion_ids"])),
            **optimisation(config),
        ),
        rows,
        tokenizer,
        scorer,
    )
    quiet(trainer, callbacks)
    return train_or_resume(trainer, folder)
