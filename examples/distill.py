"""Distil a teacher into a student on prompts. One process, or several:

    python examples/distill.py --model Qwen/Qwen2.5-0.5B-Instruct --teacher Qwen/Qwen2.5-3B-Instruct \
        --prompts prompts.jsonl --output_dir student --max_completion_length 256 --learning_rate 1e-5
    accelerate launch --config_file examples/accelerate_fsdp2.yaml examples/distill.py …

Each line of the file is {"prompt": "…"}, or {"prompt": [{"role": "user", "content": "…"}]}. Every field of `AdaSwitchConfig` is an
option, as --policy onpolicy, --multiplier 4 or --report_to wandb; a YAML file of them goes behind --config.
"""

from dataclasses import dataclass

from datasets import load_dataset
from trl import TrlParser

from adaswitch_lib.trl import AdaSwitchConfig, AdaSwitchTrainer


@dataclass
class Pair:
    """Hub ids or folders of the models, and the file with the prompts."""

    model: str
    teacher: str
    prompts: str


if __name__ == "__main__":
    pair, config = TrlParser((Pair, AdaSwitchConfig)).parse_args_and_config()
    prompts = load_dataset("json", data_files=pair.prompts, split="train")
    trainer = AdaSwitchTrainer(pair.model, pair.teacher, config, prompts)
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()  # where a process ends before the others, they may abort
    trainer.accelerator.end_training()
