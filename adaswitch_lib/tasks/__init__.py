"""Real tasks: where their rows come from and how a row becomes a prompt."""

from adaswitch_lib.tasks.data import load_split
from adaswitch_lib.tasks.prompts import encode_prompts, prompt_of, sample_prompts

__all__ = ["encode_prompts", "load_split", "prompt_of", "sample_prompts"]
