import copy

import pytest
import torch
from accelerate import dispatch_model
from helpers import write
from peft import LoraConfig, PromptTuningConfig, get_peft_model

from adaswitch_lib import (
    METHODS,
    AdaSwitch,
    FixedSwitch,
    OffPolicy,
    OnPolicy,
    Pair,
    PerTokenSwitch,
    Rollout,
    SpeculativeKD,
    SwitchRule,
    completion_logits,
    distillation_loss,
    generate,
    load_pair,
    nll_loss,
)
from adaswitch_lib.data import encode_prompts
from adaswitch_lib.generation.sampling import row_uniforms
from adaswitch_lib.rollout import NonFiniteLogits, Source

IDS = torch.tensor([[0, 5, 6], [7, 8, 9]])
MASK = torch.tensor([[0, 1, 1], [1, 1, 1]])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"eos_token_id": None}, "pass eos_token_id"),
        ({"eos_token_id": []}, "pass eos_token_id"),
        ({"pad_token_id": None}, "pass pad_token_id"),
        ({"pad_token_id": 10_000}, "must lie in"),
        ({"vocab_size": 0}, "vocab_size must be a whole number of ids, 1 or more"),
        ({"vocab_size": 9}, r"must lie in \[0, 9\)"),  # a prompt has id 9
        ({"vocab_size": 100}, "unequal vocabularies: vocab_size is 100, but the teacher scores only"),
        ({"teacher": "smollm2"}, "the teacher must be a model, got 'smollm2': load it"),
        ({"student": torch.nn.Linear(2, 2)}, "the student is wrapped in Linear"),
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number of tokens, 1 or more"),
        ({"max_new_tokens": 10**6}, "lower max_new_tokens"),
        ({"block_size": 0}, "block_size must be a whole number of tokens, 1 or more"),
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"temperature": 1e-39}, "temperature must be 0"),
        ({"teacher_temperature": -1.0}, "teacher_temperature must be 0"),
        ({"student_noise": 1.5}, "student_noise is a share"),
        ({"max_new_tokens": 4.0}, "whole number"),
        ({"row_seeds": [1]}, "one integer a row"),
        ({"row_seeds": 1}, "one integer a row"),
        ({"row_seeds": [0.5, 0.7]}, "one integer a row"),
        ({"row_seeds": [0, 2**64]}, "at most 64 bits"),
        ({"eos_token_id": {2, 5}}, "pass eos_token_id, one id or a list"),
        ({"eos_token_id": [None, 2]}, "pass eos_token_id, one id or a list"),
        ({"prompt_ids": IDS.tolist()}, "must be tensors"),
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
    monkeypatch.setattr(type(pair.teacher), "forward", lambda *a, cache=None, **k: calls.append(1))
    request = dict(prompt_ids=IDS, prompt_mask=MASK, max_new_tokens=4, row_seeds=[0, 1], eos_token_id=2, pad_token_id=0)
    request |= dict(teacher=pair.teacher, student=pair.student)
    with pytest.raises(ValueError, match=says):
        generate(OnPolicy(), **(request | changes))
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


@pytest.mark.parametrize("policy", ["adaswitch", METHODS["adaswitch"], AdaSwitch], ids=["name", "method", "class"])
def test_what_is_no_policy_is_refused(pair, policy):
    with pytest.raises(ValueError, match=r"policy must be one like AdaSwitch\(\)"):
        write(policy, pair, (IDS, MASK))


@pytest.mark.parametrize(("broken", "divergence"), [("student", "forward_kl"), ("teacher", "reverse_kl")])
def test_models_that_are_infinitely_apart_are_refused(broken, divergence):
    pair = load_pair("tiny")
    getattr(pair, broken).lm_head.register_forward_hook(lambda _, __, out: out.index_fill(-1, torch.tensor([3]), -torch.inf))
    with pytest.raises(ValueError, match=f"the {broken} gives logits of -inf"):
        write(AdaSwitch(divergence=divergence), pair, (IDS, MASK))
    fine = "reverse_kl" if divergence == "forward_kl" else "forward_kl"
    assert write(AdaSwitch(divergence=fine), pair, (IDS, MASK)).divergence.nan_to_num().isfinite().all()


def test_a_mask_of_another_scale_is_the_same_mask(pair):
    one, two = (write(OnPolicy(), pair, (IDS, MASK * scale)) for scale in (1, 2))
    assert torch.equal(one.completion_ids, two.completion_ids) and torch.equal(one.prompt_mask, two.prompt_mask)


def test_data_padded_on_the_wrong_side_is_refused():
    for prompt_mask, completion_mask, says in (
        (MASK.flip(1), MASK.flip(1), "padding_side='left'"),
        (MASK, MASK, "padding_side='right'"),
    ):
        with pytest.raises(ValueError, match=says):
            Rollout.from_data(IDS, prompt_mask, IDS, completion_mask)
    assert Rollout.from_data(IDS, MASK, IDS, MASK.flip(1)).rows([0]).completion_ids.tolist() == [[0, 5]]


def test_losses_say_what_is_wrong_with_their_input(pair):
    rollout = write(OnPolicy(), pair, (IDS, MASK))
    logits, mask = completion_logits(pair.student, rollout), rollout.completion_mask
    with pytest.raises(ValueError, match="keep_teacher_logits=True"):
        distillation_loss(rollout.teacher_logits, logits, mask)
    with pytest.raises(ValueError, match="no weight"):
        distillation_loss(logits, logits, mask * 0.5)
    with pytest.raises(ValueError, match="-100"):
        nll_loss(logits, rollout.completion_ids.index_fill(1, torch.tensor([0]), -100), mask)


def test_wrappers_of_a_model_are_seen_through_or_refused(pair):
    plain = write(AdaSwitch(), pair, (IDS, MASK))
    with torch.compiler.set_stance("force_eager"):  # the wrapper matters here, and what it compiles takes half a minute
        compiled = write(AdaSwitch(), Pair(pair.teacher, torch.compile(pair.student), pair.tokenizer), (IDS, MASK))
    assert torch.equal(plain.completion_ids, compiled.completion_ids)
    with pytest.raises(ValueError, match="the teacher is wrapped in DataParallel"):
        write(AdaSwitch(), Pair(torch.nn.DataParallel(pair.teacher), pair.student, pair.tokenizer), (IDS, MASK))


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def _zero_3(model):
    """What DeepSpeed does to weights: an id, and nothing in them until they are gathered."""
    for number, weight in enumerate(model.parameters()):
        weight.ds_id = number
        weight.data = torch.empty(0)


def test_models_whose_weights_are_spread_over_processes_are_refused(pair, one_process):
    for spread in (torch.distributed.fsdp.fully_shard, _zero_3):
        student = load_pair("tiny").student
        spread(student)
        with pytest.raises(ValueError, match="the student are spread over processes"):
            write(AdaSwitch(), Pair(pair.teacher, student, pair.tokenizer), (IDS, MASK))


def test_a_teacher_that_is_spread_over_devices_stays_where_it_is(tmp_path):
    """Here over memory and disk: its first weights are on no device until they are needed."""
    expected = write(AdaSwitch(), pair := load_pair("tiny"), (IDS, MASK), keep_teacher_logits=True)
    device_map = {"model.embed_tokens": "disk", "model.rotary_emb": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
    device_map |= {f"model.layers.{i}": "disk" if i % 2 else "cpu" for i in range(4)}
    spread = dispatch_model(pair.teacher, device_map, main_device="cpu", offload_dir=tmp_path, force_hooks=True)
    assert spread.device.type == "meta"
    rollout = write(AdaSwitch(), Pair(spread, pair.student, pair.tokenizer), (IDS, MASK), keep_teacher_logits=True)
    assert torch.equal(rollout.completion_ids, expected.completion_ids)
    torch.testing.assert_close(rollout.teacher_logits, expected.teacher_logits)


def test_models_on_another_device_than_the_prompts_are_refused(pair):
    student = copy.deepcopy(pair.student).to("meta")
    with pytest.raises(ValueError, match="the student is on meta and the prompts are on cpu"):
        write(AdaSwitch(), Pair(pair.teacher, student, pair.tokenizer), (IDS, MASK))


def test_adapters_of_the_weights_write_and_those_of_the_prompt_are_refused():
    pair = load_pair("tiny")
    lora = get_peft_model(copy.deepcopy(pair.student), LoraConfig(task_type="CAUSAL_LM"))
    plain, adapted = (write(AdaSwitch(), Pair(pair.teacher, model, pair.tokenizer), (IDS, MASK)) for model in (pair.student, lora))
    assert torch.equal(plain.completion_ids, adapted.completion_ids)  # a new adapter changes nothing yet
    student = get_peft_model(pair.student, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(ValueError, match="use LoRA"):
        write(OnPolicy(), Pair(pair.teacher, student, pair.tokenizer), (IDS, MASK))


def test_defaults_of_torch_do_not_matter(pair):
    plain = write(AdaSwitch(), pair, (IDS, MASK))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            uniforms = row_uniforms([0, 1], 4)
        other = write(AdaSwitch(), pair, (IDS, MASK))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(uniforms, row_uniforms([0, 1], 4))
    assert torch.equal(plain.completion_ids, other.completion_ids) and other.divergence.dtype == torch.float32


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


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jensen_shannon", "total_variation"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_teacher_that_gives_nan_is_named_by_the_loss(divergence, value):
    student = torch.zeros(2, 3, 5)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    for broken in ("teacher", "padding", "student"):
        logits = {"teacher": torch.zeros(2, 3, 5), "student": student.clone()}
        logits["student" if broken == "student" else "teacher"][1, 2 if broken == "padding" else 1, 0] = value
        if broken == "teacher":
            with pytest.raises(NonFiniteLogits, match="the teacher gives NaN or infinite logits") as error:
                distillation_loss(logits["teacher"], logits["student"], mask, divergence)
            assert error.value.of is Source.TEACHER
        else:  # a student that has collapsed is a result
            loss = distillation_loss(logits["teacher"], logits["student"], mask, divergence)
            assert loss.isnan() == (broken == "student")


def test_a_text_longer_than_a_model_was_made_for_is_refused(pair):
    stretched = copy.deepcopy(pair.student)
    stretched.config.rope_parameters = {
        "rope_type": "dynamic",
        "factor": 2.0,
        "rope_theta": 1e4,
        "original_max_position_embeddings": 16,
    }
    assert write(OnPolicy(), Pair(pair.teacher, stretched, pair.tokenizer), (IDS, MASK), max_new_tokens=13).completion_mask.any()
    with pytest.raises(ValueError, match="the student was made for 16"):
        write(OnPolicy(), Pair(pair.teacher, stretched, pair.tokenizer), (IDS, MASK), max_new_tokens=14)


def test_one_text_is_no_list_of_prompts(pair):
    with pytest.raises(TypeError, match="put it into a list"):
        encode_prompts(pair.tokenizer, "Ann has")
