"""Tasks: where their rows come from, how a row becomes a prompt, how an answer is scored.

A task is one file here that defines `TASK`; its name stands in `_FILES`, at its place in tables and figures. Outside of the
package `TASKS["name"] = Task(...)` adds one.
"""

from importlib import import_module

from adaswitch_lib.experiments.tasks.data import load_split
from adaswitch_lib.experiments.tasks.micro import micro_tokenizer
from adaswitch_lib.experiments.tasks.samples import sample_prompts
from adaswitch_lib.experiments.tasks.task import Task, limited

_FILES = ("micro_gsm", "micro_gsm_plus", "micro_dialog", "dialogsum", "gsm8k", "gsm_plus")
TASKS: dict[str, Task] = {name: import_module(f"{__name__}.{name}").TASK for name in _FILES}
"""All tasks by their names, in the order of tables and figures."""

__all__ = [
    "TASKS",
    "Task",
    "limited",
    "load_split",
    "micro_tokenizer",
    "sample_prompts",
]
