import pytest
import torch
from helpers import parallel_logits, row, same_text, write
from transformers import Gemma2Config, Gemma2ForCausalLM, MambaConfig, MambaForCausalLM, MistralConfig, MistralForCausalLM

from adaswitch_lib import AdaSwitch, Pair, SpeculativeKD, SwitchRule, forward_kl, load_pair
from adaswitch_lib.models import TINY_ARCHITECTURES

POLICIES = (AdaSwitch(SwitchRule(multiplier=1.2, window=4, min_history=2)), SpeculativeKD(top_k=6))


def check(pair, prompts):
    ids, mask = prompts
    for policy in POLICIES:
        rollout = write(policy, pair, prompts)
        assert same_text(rollout, write(policy, pair, prompts, block_size=1))
        alone = write(policy, pair, (ids[3:4], mask[3:4]), row_seeds=[3])
        assert row(alone, 0) == row(rollout, 3)
        real = rollout.completion_mask.bool()
        expected = forward_kl(*parallel_logits(pair, rollout))
        torch.testing.assert_close(rollout.divergence[real], expected[real], atol=1e-4, rtol=0)
        assert (rollout.source == 1).any()


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_cached_blocks_equal_one_parallel_pass(architecture, prompts):
    check(load_pair("tiny", architecture=architecture), prompts)


def pair_of(pair, build):
    torch.manual_seed(0)
    sizes = dict(vocab_size=len(pair.tokenizer), num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3)
    models = [
        build(hidden_size=w, intermediate_size=2 * w, num_hidden_layers=n, head_dim=w // 4, **sizes) for n, w in ((4, 64), (2, 32))
    ]
    return Pair(*(model.eval() for model in models), pair.tokenizer)


def test_a_sliding_window_shorter_than_the_text(pair, prompts):
    check(pair_of(pair, lambda **sizes: MistralForCausalLM(MistralConfig(sliding_window=4, **sizes))), prompts)


def test_sliding_window_and_both_soft_caps_of_gemma2(pair, prompts):
    caps = dict(sliding_window=4, attn_logit_softcapping=2.0, final_logit_softcapping=5.0)
    capped = pair_of(pair, lambda **sizes: Gemma2ForCausalLM(Gemma2Config(**caps, **sizes)))
    check(capped, prompts)
    kept = write(POLICIES[0], capped, prompts, keep_teacher_logits=True).teacher_logits
    assert 4 < kept.abs().max() <= 5


def test_a_model_with_recurrent_state_is_refused(pair, prompts):
    mamba = MambaForCausalLM(MambaConfig(vocab_size=len(pair.tokenizer), hidden_size=32, num_hidden_layers=2))
    with pytest.raises(ValueError, match="recurrent state"):
        write(POLICIES[0], Pair(pair.teacher, mamba, pair.tokenizer), prompts)


def test_the_soft_cap_inside_attention_changes_the_logits(pair):
    ids = torch.arange(4, 16)[None]
    capped, free = (
        pair_of(pair, lambda cap=cap, **sizes: Gemma2ForCausalLM(Gemma2Config(attn_logit_softcapping=cap, **sizes)))
        for cap in (0.5, None)
    )
    with torch.no_grad():
        assert (capped.teacher(ids).logits - free.teacher(ids).logits).abs().max() > 0.1
