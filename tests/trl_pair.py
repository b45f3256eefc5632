"""A tiny pair like Qwen2.5 in folders, whose embeddings are padded by different numbers of ids, and a trainer of it."""

import torch
from datasets import Dataset
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from adaswitch_lib.trl import AdaSwitchConfig, AdaSwitchTrainer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATS = [
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Count: " + "one two "[: i % 7 + 2] * (i % 3 + 1)}]
    for i in range(16)
]
PROMPTS = Dataset.from_list([{"prompt": chat} for chat in CHATS])
RULE = {"multiplier": 1.2, "window": 4, "min_history": 2}
SETTINGS = {
    "per_device_train_batch_size": 2,
    "max_steps": 2,
    "max_completion_length": 20,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "report_to": "none",
    "disable_tqdm": True,
}


def save_pair(folder, widths=(64, 32)):
    """The tokenizer has every byte, three special tokens, and a template with system turns."""
    tokenizer = Qwen2Tokenizer(
        vocab={byte: i for i, byte in enumerate(sorted(ByteLevel.alphabet()))},
        merges=[],
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        extra_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = CHATML
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, layers, width, more in (("teacher", 3, widths[0], 5), ("student", 2, widths[1], 2)):
            config = Qwen2Config(
                vocab_size=len(tokenizer) + more,
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=layers,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=256,
                initializer_range=0.3,
                tie_word_embeddings=name == "student",
                eos_token_id=tokenizer.eos_token_id,
            )
            Qwen2ForCausalLM(config).save_pretrained(folder / name)
            tokenizer.save_pretrained(folder / name)


def config(out, **changes):
    settings = SETTINGS | RULE | {"gradient_accumulation_steps": 2, "use_cpu": True, "save_strategy": "no"}
    return AdaSwitchConfig(str(out), **settings | {"gradient_checkpointing": False, "dataloader_pin_memory": False} | changes)


def trainer(folder, out, writer=None, peft_config=None, dataset=PROMPTS, **changes):
    """With what it writes in `written`: prompts, row seeds, rollout."""
    teacher, student = str(folder / "teacher"), str(folder / "student")
    made = AdaSwitchTrainer(student, teacher, config(out, **changes), dataset, policy=writer, peft_config=peft_config)
    made.written = []
    write = made.write

    def keep(prompt_ids, student_ids=None):
        made.written.append((prompt_ids, made.row_seeds(prompt_ids), write(prompt_ids, student_ids)))
        return made.written[-1][-1]

    made.write = keep
    return made
