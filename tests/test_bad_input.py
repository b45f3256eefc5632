import copy

import pytest
import torch
from helpers import write
from transformers import AutoModelForCausalLM, OpenAIGPTConfig

from adaswitch_lib import (
    AdaSwitch,
    FixedSwitch,
    OffPolicy,
    OnPolicy,
    Pair,
    PerTokenSwitch,
    SpeculativeKD,
    SwitchRule,
    generate,
    load_pair,
)
from adaswitch_lib.tasks import encode_prompts

IDS = torch.tensor([[0, 5, 6], [7, 8, 9]])
MASK = torch.tensor([[0, 1, 1], [1, 1, 1]])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"eos_token_id": None}, "pass eos_token_id"),
        ({"eos_token_id": []}, "pass eos_token_id"),
        ({"pad_token_id": None}, "pass pad_token_id"),
        ({"pad_token_id": 10_000}, "must lie in"),
        ({"max_new_tokens": 0}, "max_new_tokens must be 1"),
        ({"max_new_tokens": 10**6}, "lower max_new_tokens"),
        ({"block_size": 0}, "block_size must be 1"),
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"temperature": 1e-39}, "temperature must be 0"),
        ({"row_seeds": [1]}, "one integer a row"),
        ({"prompt_ids": IDS + 10_000}, "must lie in"),
        ({"prompt_mask": MASK[:, 1:]}, "must both have shape"),
        ({"prompt_mask": MASK * torch.tensor([[0], [1]])}, "empty prompt"),
        ({"prompt_ids": IDS[:0], "prompt_mask": MASK[:0], "row_seeds": []}, "empty prompt"),
        ({"prompt_mask": MASK.flip(1)}, "padding_side = 'left'"),
        ({"prompt_ids": IDS.masked_fill(MASK == 1, -100)}, "must lie in"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_refused_before_any_work(pair, monkeypatch, changes, says):
    calls = []
    monkeypatch.setattr(type(pair.teacher), "forward", lambda *a, past_key_values=None, **k: calls.append(1))
    request = dict(prompt_ids=IDS, prompt_mask=MASK, max_new_tokens=4, row_seeds=[0, 1], eos_token_id=2, pad_token_id=0)
    with pytest.raises(ValueError, match=says):
        generate(OnPolicy(), pair.teacher, pair.student, **(request | changes))
    assert not calls


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SwitchRule(multiplier=0), "K"),
        (lambda: SwitchRule(window=0), "window"),
        (lambda: SwitchRule(window=8.0), "whole number"),
        (lambda: SwitchRule(min_history=float("nan")), "whole number"),
        (lambda: SwitchRule(min_history=-1), "min_history"),
        (lambda: SwitchRule(floor=-0.1), "floor"),
        (lambda: SpeculativeKD(top_k=0), "top_k must be 1"),
        (lambda: FixedSwitch(1.5), "between 0 and 1"),
        (lambda: PerTokenSwitch(-1.0), "0 or more"),
        (lambda: AdaSwitch(divergence="kl"), "unknown divergence 'kl': use one of forward_kl"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_unequal_vocabularies(pair):
    wide = copy.deepcopy(pair.teacher)
    wide.resize_token_embeddings(len(pair.tokenizer) + 8, mean_resizing=False)
    with pytest.raises(ValueError, match="unequal vocabularies.*load_pair"):
        write(OnPolicy(), Pair(wide, pair.student, pair.tokenizer), (IDS, MASK))


@pytest.mark.parametrize("policy", [OnPolicy(), OffPolicy(), AdaSwitch()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("broken", ["teacher", "student"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_not_passed_on(policy, broken, value):
    pair = load_pair("tiny")
    with torch.no_grad():
        getattr(pair, broken).lm_head.weight[3] = value
    with pytest.raises(ValueError, match=f"the {broken} gives .*Check its weights"):
        write(policy, pair, (IDS, MASK))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_writer_that_gives_nan_is_found_where_nothing_is_recorded(temperature):
    pair = load_pair("tiny")
    with torch.no_grad():
        pair.student.lm_head.weight[3] = torch.nan
    with pytest.raises(ValueError, match="the student gives NaN"):
        write(OnPolicy(), pair, (IDS, MASK), temperature=temperature, record_divergence=False)


def test_models_that_could_not_take_part_are_refused(pair):
    tokenizer = pair.tokenizer
    uncached = AutoModelForCausalLM.from_config(OpenAIGPTConfig(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2))
    with pytest.raises(ValueError, match="no key-value cache"):
        write(OnPolicy(), Pair(uncached, pair.student, tokenizer), (IDS, MASK))
    stretched = copy.deepcopy(pair.student)
    stretched.config.rope_parameters = {
        "rope_type": "dynamic",
        "factor": 2.0,
        "rope_theta": 1e4,
        "original_max_position_embeddings": 16,
    }
    assert write(OnPolicy(), Pair(pair.teacher, stretched, tokenizer), (IDS, MASK), max_new_tokens=13).completion_mask.any()
    with pytest.raises(ValueError, match="the student was made for 16"):
        write(OnPolicy(), Pair(pair.teacher, stretched, tokenizer), (IDS, MASK), max_new_tokens=14)


def test_one_text_is_no_list_of_prompts(pair):
    with pytest.raises(TypeError, match="put it into a list"):
        encode_prompts(pair.tokenizer, "Ann has")


def test_unequal_vocabularies_are_refused_before_any_work(pair, monkeypatch):
    wide = copy.deepcopy(pair.teacher)
    wide.resize_token_embeddings(len(pair.tokenizer) + 8, mean_resizing=False)
    calls = []
    monkeypatch.setattr(type(wide), "forward", lambda *a, past_key_values=None, **k: calls.append(1))
    with pytest.raises(ValueError, match="unequal vocabularies"):
        write(AdaSwitch(), Pair(wide, pair.student, pair.tokenizer), (IDS, MASK))
    assert not calls
