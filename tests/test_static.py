"""Written from static buffers the texts are the same. On a CPU nothing is captured; slots can be had as on a GPU."""

import pytest
import torch
from helpers import row, same_text, write
from test_generation import RULE, every_policy

from adaswitch_lib import AdaSwitch, OnPolicy, SpeculativeKD, load_pair
from adaswitch_lib.generation import static
from adaswitch_lib.generation.static import static_decoding
from adaswitch_lib.rollout import NonFiniteLogits


@pytest.fixture(params=[False, True], ids=["as on a CPU", "in the shapes of graphs"])
def slots(request, monkeypatch):
    monkeypatch.setattr(static.Slots, "in_graphs", request.param)
    monkeypatch.setattr(static.Slots, "_slots_for", few_slots if request.param else static.Slots._slots_for)


def few_slots(self, rows):  # as the library's, whose 8 are all rows that there are here
    return min(max(2, 1 << (rows - 1).bit_length()), len(self.length))


@every_policy
def test_texts_are_the_same(policy, pair, prompts, slots):
    settings = {"keep_teacher_logits": True, "block_size": 3}
    expected = write(policy, pair, prompts, **settings)
    with static_decoding():
        for _ in range(2):  # in new buffers, and again in those
            rollout = write(policy, pair, prompts, **settings)
            assert same_text(rollout, expected)
            torch.testing.assert_close(rollout.divergence, expected.divergence, atol=1e-4, rtol=0, equal_nan=True)
            torch.testing.assert_close(rollout.teacher_logits, expected.teacher_logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("policy", [AdaSwitch(RULE), SpeculativeKD(top_k=8)], ids=["adaswitch", "skd"])
@pytest.mark.parametrize("settings", [{"block_size": 1}, {"block_size": 40}, {"temperature": 0}, {"record_divergence": False}])
def test_texts_are_the_same_in_blocks_of_any_size_and_greedily(policy, settings, pair, prompts, slots):
    expected = write(policy, pair, prompts, **settings)
    with static_decoding():
        assert same_text(write(policy, pair, prompts, **settings), expected)


def test_a_row_alone_among_others_and_longer_texts_in_turn(pair, prompts, slots):
    ids, mask = prompts
    expected = write(AdaSwitch(RULE), pair, prompts)
    with static_decoding():
        for changes in ({"max_new_tokens": 5}, {}, {"max_new_tokens": 30}, {}):
            batch = write(AdaSwitch(RULE), pair, prompts, **changes)
        assert same_text(batch, expected)
        for i in (0, 3):
            assert row(write(AdaSwitch(RULE), pair, (ids[i : i + 1], mask[i : i + 1]), row_seeds=[i]), 0) == row(expected, i)


@pytest.mark.parametrize("architecture", ["gpt2", "gemma", "qwen3"])
def test_other_architectures(architecture, prompts, slots):
    pair = load_pair("tiny", architecture=architecture)
    expected = write(AdaSwitch(RULE), pair, prompts)
    with static_decoding():
        assert same_text(write(AdaSwitch(RULE), pair, prompts), expected)


def test_weights_may_change_between_texts(prompts):
    pair = load_pair("tiny")
    with static_decoding():
        before = write(OnPolicy(), pair, prompts)
        with torch.no_grad():
            pair.student.lm_head.weight.mul_(-1)
        after = write(OnPolicy(), pair, prompts)
    assert not same_text(before, after) and same_text(after, write(OnPolicy(), pair, prompts))


def test_weights_that_give_nan_leave_nothing_behind(prompts):
    pair = load_pair("tiny")
    expected, weight = write(AdaSwitch(RULE), pair, prompts), pair.student.model.embed_tokens.weight
    with static_decoding():
        write(AdaSwitch(RULE), pair, prompts)
        good = weight.detach().clone()
        with torch.no_grad():
            weight.fill_(torch.nan)
        with pytest.raises(NonFiniteLogits, match="student"):
            write(AdaSwitch(RULE), pair, prompts)
        with torch.no_grad():
            weight.copy_(good)
        assert same_text(write(AdaSwitch(RULE), pair, prompts), expected)


def test_a_window_that_slides_is_refused(prompts):
    pair = load_pair("tiny", architecture="mistral")
    pair.teacher.config.sliding_window = 16
    with static_decoding(), pytest.raises(ValueError, match="sliding_window"):
        write(AdaSwitch(), pair, prompts)
