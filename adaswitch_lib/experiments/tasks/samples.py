"""Prompts that ship with the package."""

from __future__ import annotations

import json
from importlib.resources import files

from adaswitch_lib.experiments.tasks import dialogsum, gsm8k

_SAMPLES = {"gsm8k": ("gsm8k.jsonl", gsm8k.prompt), "dialogue": ("dialogues.jsonl", dialogsum.prompt)}


def sample_prompts(kind: str) -> list[str]:
    """Prompts that ship with the package: eight "gsm8k" questions (MIT, training split) or eight "dialogue"s of our own.

    Raises:
        ValueError: for another kind.
    """
    if kind not in _SAMPLES:
        raise ValueError(f"no samples of {kind!r}: use one of {', '.join(_SAMPLES)}, or load_split for full sets.")
    name, prompt = _SAMPLES[kind]
    lines = files("adaswitch_lib.experiments.tasks").joinpath("samples", name).read_text("utf-8").splitlines()
    return [prompt(json.loads(line)) for line in lines]
