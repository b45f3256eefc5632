"""Tasks: where their rows come from, how a row becomes a prompt, how an answer is scored."""

from adaswitch_lib.experiments.tasks.data import load_split
from adaswitch_lib.experiments.tasks.dialogsum import DIALOGSUM
from adaswitch_lib.experiments.tasks.gsm import GSM8K, GSM_PLUS
from adaswitch_lib.experiments.tasks.micro import MICRO_DIALOG, MICRO_GSM, MICRO_GSM_PLUS, TEACHER_ROWS, micro_tokenizer
from adaswitch_lib.experiments.tasks.prompts import limited, prompt_of, sample_prompts
from adaswitch_lib.experiments.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (MICRO_GSM, MICRO_GSM_PLUS, MICRO_DIALOG, GSM8K, GSM_PLUS, DIALOGSUM)}

__all__ = [
    "TASKS",
    "TEACHER_ROWS",
    "Task",
    "limited",
    "load_split",
    "micro_tokenizer",
    "prompt_of",
    "sample_prompts",
]
