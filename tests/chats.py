"""Tokenizers with chat templates, made without the hub."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CHATML = """\
{%- if messages[0].role != 'system' %}{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content.strip() + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
{%- if add_generation_prompt and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"""

LLAMA = """<s>
{%- if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}{{ 'Today: ' + date_string + '\\n' }}
{%- for message in messages %}{{ '<|head|>' + message.role + '<|/head|>\\n\\n' + message.content + '<|eot|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\\n\\n' }}{% endif %}"""

GEMMA = """<s>
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}{{ '<|turn|>' + message.role + '\\n' + message.content + '<|/turn|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|turn|>assistant\\n' }}{% endif %}"""

PHI = """\
{%- for message in messages %}{{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

PLAIN = """\
{%- for message in messages %}{{ message.role + ': ' + message.content + '\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"""

FORGETS_THOUGHTS = """\
{%- for message in messages %}{{ '<|' + message.role + '|>' + message.content + eos_token }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}"""
"""As templates of models that think: the prompt begins a thought, of which nothing is left once the answer is there."""


def chat_tokenizer(template: str | None = CHATML, **special: str | None) -> PreTrainedTokenizerFast:
    """One id a byte, so that no text is unknown, and the special tokens of the templates."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = "<|im_start|> <|im_end|> <|head|> <|/head|> <|eot|> <|turn|> <|/turn|> <|user|> <|assistant|> <|end|>".split()
    tokenizer.add_special_tokens(["</s>", "<pad>", "<s>", *marks])
    named = {"eos_token": "</s>", "pad_token": "<pad>", "bos_token": "<s>"} | special
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **named)
