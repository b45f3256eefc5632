"""How the teachers of this project are trained, where they lie, and what names them."""

from __future__ import annotations

from pathlib import Path

from adaswitch_lib.experiments import sealed
from adaswitch_lib.experiments.config import ModelSize, Pretrained, SFTConfig
from adaswitch_lib.experiments.paths import home

TEACHERS = {
    "micro_gsm": SFTConfig(ModelSize(layers=4, width=128), num_rows=200_000, steps=3000),
    "micro_dialog": SFTConfig(ModelSize(layers=4, width=128), num_rows=60_000, steps=900),
    "dialogsum": SFTConfig(
        Pretrained("smollm2", lora_rank=6, bf16=False),
        num_rows=2560,
        steps=320,
        batch_size=8,
        micro_batch=4,  # whole, the training took 7 GB
        learning_rate=3e-3,
    ),
}
"""How each is trained; see `teachers`."""

LIMITS = {"dialogsum": (400, 56)}
"""Tokens of prompts and completions that a teacher learns from."""


def teacher_folder(task: str) -> Path:
    """Of a teacher that this project trains. Those of new models ship with the package. Adapters stand with the
    results, since the licence of what they learned from does not allow every use."""
    recipe = TEACHERS.get(task)
    ships = recipe is not None and isinstance(recipe.size, ModelSize)
    return Path(__file__).parent / "teachers" / task if ships else home() / "results/smollm2/teachers" / task


def teacher_digest(task: str) -> str:
    """The first eight hexadecimal digits of the SHA-256 of such a teacher's weights; "" where there is none."""
    hashes = sealed.hashes(teacher_folder(task))
    return next((hashes[name][:8] for name in ("model.safetensors", "adapter_model.safetensors") if name in hashes), "")
