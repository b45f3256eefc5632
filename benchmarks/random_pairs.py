"""Pairs with random weights in the shapes of the paper's, and tokenizers of as many words. No network, no files."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from adaswitch_lib import Pair

SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")
PAIRS = {
    "Qwen2.5-3B → 0.5B": ("qwen2", 151_936, (2048, 11008, 36, 16, 2, 128), (896, 4864, 24, 14, 2, 64)),
    "Llama-3.2-3B → 1B": ("llama", 128_256, (3072, 8192, 28, 24, 8, 128), (2048, 8192, 16, 32, 8, 64)),
}
"""Architecture, vocabulary, and `SIZES` of teacher and student, as their configurations on the hub have them."""

SMALL = ((32, 64, 2, 4, 2, 8), (16, 32, 2, 4, 2, 4))
"""`SIZES` that stand for any pair's in a dry run."""


def random_pair(name: str, vocabulary: int | None = None, small: bool = False, device: str = "cpu") -> Pair:
    """Teacher and student in bfloat16; float32 where they are small."""
    architecture, words, *sizes = PAIRS[name]
    words = vocabulary or (512 if small else words)
    built = []
    torch.manual_seed(0)
    for size in SMALL if small else sizes:
        config = AutoConfig.for_model(
            architecture,
            **dict(zip(SIZES, size, strict=True)),
            vocab_size=words,
            tie_word_embeddings=True,
            max_position_embeddings=4096,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=1,
        )
        with torch.device(device):
            built.append(AutoModelForCausalLM.from_config(config, dtype=torch.float32 if small else torch.bfloat16).eval())
    return Pair(*built, word_tokenizer(words))


def word_tokenizer(words: int) -> PreTrainedTokenizerFast:
    """Word i is "wi"; w0 is padding, w1 EOS, w2 an unknown word."""
    model = Tokenizer(models.WordLevel({f"w{i}": i for i in range(words)}, unk_token="w2"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=model, pad_token="w0", eos_token="w1", unk_token="w2", padding_side="left")
