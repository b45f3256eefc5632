import pytest
import torch
from helpers import parallel_logits, row, same_text, write
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    MistralConfig,
    MistralForCausalLM,
)

from adaswitch_lib import AdaSwitch, Pair, SpeculativeKD, SwitchRule, forward_kl, load_pair
from adaswitch_lib.generation.supported import check_supported
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


WIDTHS = ("hidden_size", "d_model", "n_embd", "attention_hidden_size", "dim")
SIZES = (
    dict.fromkeys(WIDTHS, 32)
    | dict.fromkeys(("num_hidden_layers", "encoder_layers", "decoder_layers", "num_layers", "num_decoder_layers", "n_layer"), 2)
    | dict.fromkeys(("num_attention_heads", "encoder_attention_heads", "decoder_attention_heads", "num_heads", "n_head"), 4)
    | dict.fromkeys(("intermediate_size", "moe_intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff"), 32)
    | dict.fromkeys(("num_key_value_heads", "n_routed_experts", "num_local_experts", "num_experts", "n_group"), 4)
    | {"topk_group": 4, "head_dim": 8, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8}
    | {"v_head_dim": 8, "index_head_dim": 16, "index_n_heads": 2, "index_topk": 4, "max_position_embeddings": 64}
    | {"initializer_range": 0.3, "init_std": 0.3, "hidden_size_per_layer_input": 8, "d_kv": 8, "num_encoder_layers": 2}
)
IDS = {"vocab_size": 29, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}


def tiny(architecture, auto=AutoModelForCausalLM, **settings):
    """A small model of this type with random weights."""
    known = vars(AutoConfig.for_model(architecture))
    sizes = {name: value for name, value in SIZES.items() if name in known}
    torch.manual_seed(0)
    return auto.from_config(AutoConfig.for_model(architecture, **sizes | IDS | settings)).eval()


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("mixtral", {"output_router_logits": True}),
        ("qwen3_moe", {"output_router_logits": True, "num_experts_per_tok": 2}),
        ("deepseek_v3", {}),  # latent attention
        ("gemma3n_text", {"num_hidden_layers": 4, "num_kv_shared_layers": 2, "vocab_size_per_layer_input": 29, "laurel_rank": 4}),
        ("llama4_text", {"num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0], "floor_scale": 64}),
        ("opt", {"word_embed_proj_dim": 32, "ffn_dim": 32}),
        ("bloom", {}),
    ],
)
def test_other_kinds_of_attention_and_mixtures_of_experts(architecture, settings, pair, prompts):
    model = tiny(architecture, **settings)
    check(Pair(model, tiny(architecture, **settings).apply(_shaken), pair.tokenizer), prompts)


@torch.no_grad()
def _shaken(module):
    for weight in module.parameters(recurse=False):
        weight.add_(0.1 * torch.randn(weight.shape))


def test_a_model_of_texts_and_images_writes_texts(pair, prompts):
    text = {
        name: SIZES[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "head_dim")
    }
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 28}
    config = Gemma3Config(
        text_config=text | {"num_key_value_heads": 2, "initializer_range": 0.3, "sliding_window": 4} | IDS,
        vision_config=vision | {"patch_size": 14},
        image_token_id=28,
    )
    models = [Gemma3ForConditionalGeneration(config).eval() for _ in range(2)]
    check(Pair(*models, pair.tokenizer), prompts)


REFUSED = {
    "decoders of encoder-decoder models": ["bart", "mbart", "marian", "pegasus", "trocr", "blenderbot", "prophetnet", "plbart"],
    "encoders": ["bert", "roberta", "xlm-roberta", "camembert", "electra", "roformer", "big_bird"],
    "recurrent states": ["mamba", "rwkv", "falcon_mamba"],
    "another cache, or none": ["deepseek_v32", "glm_moe_dsa", "openai-gpt", "xlnet", "cpmant"],
}


@pytest.mark.parametrize("architecture", [name for names in REFUSED.values() for name in names])
def test_models_that_write_otherwise_than_they_score_are_refused(architecture):
    model = tiny(architecture)
    assert model(torch.arange(4, 12)[None]).logits.isfinite().all()  # it is no broken model
    with pytest.raises(ValueError, match="generate works with decoders"):
        check_supported(model, 29, torch.device("cpu"))


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_encoder_decoders_are_refused(architecture):
    with pytest.raises(ValueError, match="generate works with decoders"):
        check_supported(tiny(architecture, AutoModelForSeq2SeqLM), 29, torch.device("cpu"))


def test_a_model_is_asked_once_and_left_as_it_was():
    model, passes = tiny("llama").train(), []
    model.register_forward_hook(lambda *_: passes.append(1))
    for _ in range(3):
        check_supported(model, 29, torch.device("cpu"))
    assert 0 < len(passes) < 8 and all(module.training for module in model.modules())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_rounding_is_no_reason_to_refuse(architecture, dtype):
    for model in load_pair("tiny", architecture=architecture, dtype=dtype)[:2]:
        check_supported(model, 29, torch.device("cpu"))


def test_a_text_that_reaches_where_attention_counts_padding_is_refused(pair, prompts):
    model = tiny("llama4_text", num_hidden_layers=4, no_rope_layers=[1, 1, 1, 0], floor_scale=32)
    with pytest.raises(ValueError, match="made for 31"):
        write(POLICIES[0], Pair(model, model, pair.tokenizer), prompts)


def test_the_soft_cap_inside_attention_changes_the_logits(pair):
    ids = torch.arange(4, 16)[None]
    capped, free = (
        pair_of(pair, lambda cap=cap, **sizes: Gemma2ForCausalLM(Gemma2Config(attn_logit_softcapping=cap, **sizes)))
        for cap in (0.5, None)
    )
    with torch.no_grad():
        assert (capped.teacher(ids).logits - free.teacher(ids).logits).abs().max() > 0.1
