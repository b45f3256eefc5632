"""Distil on chats that have their answers, as most published chat data: LoRA, with a system prompt, thinking switched off.

    python examples/distill_chat.py --model Qwen/Qwen3-0.6B --teacher Qwen/Qwen3-4B --chats chats.jsonl --output_dir student

Each line of the file is {"messages": [{"role": "system", "content": "…"}, {"role": "user", …}, {"role": "assistant", …}]}. What
comes before the last answer is the prompt; the answer itself is not used, since the policy writes another.
"""

from dataclasses import dataclass

from datasets import load_dataset
from peft import LoraConfig
from trl import TrlParser

from adaswitch_lib.trl import AdaSwitchConfig, AdaSwitchTrainer


@dataclass
class Pair:
    """Hub ids or folders of the models, and the file with the chats."""

    model: str
    teacher: str
    chats: str


def prompt(row: dict) -> dict:
    return {"prompt": row["messages"][:-1] if row["messages"][-1]["role"] == "assistant" else row["messages"]}


if __name__ == "__main__":
    pair, config = TrlParser((Pair, AdaSwitchConfig)).parse_args_and_config()
    config.chat_template_kwargs = {"enable_thinking": False} | (config.chat_template_kwargs or {})
    chats = load_dataset("json", data_files=pair.chats, split="train")
    prompts = chats.map(prompt, remove_columns=chats.column_names)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = AdaSwitchTrainer(pair.model, pair.teacher, config, prompts, peft_config=lora)
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()  # where a process ends before the others, they may abort
    trainer.accelerator.end_training()
