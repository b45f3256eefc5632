import math
import random

import pytest
import torch
from helpers import parallel_logits, row, same_text, write
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from adaswitch_lib import (
    DIVERGENCES,
    AdaSwitch,
    FixedSwitch,
    NoisyTeacher,
    OffPolicy,
    OnPolicy,
    PerTokenSwitch,
    RandomSwitch,
    Source,
    SpeculativeKD,
    StopAtSwitch,
    SwitchRule,
    first_switch,
    jensen_shannon,
    load_pair,
    switch_threshold,
)
from adaswitch_lib.generation.sampling import row_uniforms, sample

RULE = SwitchRule(multiplier=1.3, window=4, min_history=2)
POLICIES = [
    OnPolicy(),
    OffPolicy(),
    AdaSwitch(RULE),
    AdaSwitch(RULE, divergence="total_variation"),
    StopAtSwitch(RULE),
    RandomSwitch(RULE),
    FixedSwitch(0.3),
    NoisyTeacher(0.2),
    SpeculativeKD(top_k=8),
    PerTokenSwitch(0.4, 0.02),
]
every_policy = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: f"{type(policy).__name__}-{policy.divergence}")
by_row_policy = pytest.mark.parametrize(
    "policy", [p for p in POLICIES if not isinstance(p, RandomSwitch)], ids=lambda policy: type(policy).__name__
)


@every_policy
def test_text_does_not_depend_on_block_size(policy, pair, prompts):
    token_by_token = write(policy, pair, prompts, block_size=1)
    for block_size in (2, 7, 64):
        assert same_text(token_by_token, write(policy, pair, prompts, block_size=block_size))


@pytest.mark.parametrize("policy", [OnPolicy(), AdaSwitch(RULE), StopAtSwitch(RULE), RandomSwitch(RULE), FixedSwitch(0.3)])
@pytest.mark.parametrize("record_divergence", [True, False])
def test_the_student_may_have_written_elsewhere(policy, record_divergence, pair, prompts):
    text = write(OnPolicy(), pair, prompts).completion_ids
    expected = write(policy, pair, prompts)
    for block_size in (3, 64):
        more = {"block_size": block_size, "record_divergence": record_divergence}
        assert same_text(expected, write(policy, pair, prompts, student_ids=text, **more))


@pytest.mark.parametrize(
    ("policy", "change", "message"),
    [
        (SpeculativeKD(), lambda text: text, "do not give back to the student"),
        (AdaSwitch(), lambda text: text[:, :2] * 0 + 5, "neither with an EOS nor at max_new_tokens"),
        (AdaSwitch(), lambda text: text[1:], "one row a prompt"),
        (AdaSwitch(), lambda text: text + 10**6, "one row a prompt, of ids in"),
    ],
)
def test_texts_from_elsewhere_that_do_not_do_are_refused(policy, change, message, pair, prompts):
    text = write(OnPolicy(), pair, prompts).completion_ids
    with pytest.raises(ValueError, match=message):
        write(policy, pair, prompts, student_ids=change(text))


@by_row_policy
def test_a_row_depends_on_its_prompt_and_seed_alone(policy, pair, prompts):
    batch = write(policy, pair, prompts)
    ids, mask = prompts
    for i in range(len(ids)):
        alone = write(policy, pair, (ids[i : i + 1], mask[i : i + 1]), row_seeds=[i])
        assert row(alone, 0) == row(batch, i)
    padded = [torch.nn.functional.pad(tensor, (5, 0)) for tensor in prompts]
    assert same_text(batch, write(policy, pair, padded))
    order = torch.tensor([3, 1, 6, 0])
    others = write(policy, pair, (ids[order], mask[order]), row_seeds=order.tolist())
    assert [row(others, k) for k in range(4)] == [row(batch, int(i)) for i in order]


@every_policy
def test_recorded_divergence_and_kept_logits_equal_a_parallel_pass(policy, pair, prompts):
    rollout = write(policy, pair, prompts, keep_teacher_logits=True)
    teacher, student = parallel_logits(pair, rollout)
    real = rollout.completion_mask.bool()
    expected = DIVERGENCES[policy.divergence](teacher, student)
    torch.testing.assert_close(rollout.divergence[real], expected[real], atol=1e-4, rtol=0)
    torch.testing.assert_close(rollout.teacher_logits[real], teacher[real], atol=1e-4, rtol=0)
    assert rollout.divergence[~real].isnan().all()
    assert not rollout.teacher_logits[~real].any()


@every_policy
def test_without_recording_the_text_is_the_same(policy, pair, prompts):
    rollout = write(policy, pair, prompts)
    assert rollout.teacher_logits is None
    assert same_text(rollout, write(policy, pair, prompts, record_divergence=False))


@every_policy
def test_the_same_seeds_give_the_same_rows_and_leave_global_randomness_alone(policy, pair, prompts):
    states = torch.get_rng_state(), random.getstate()
    first = write(policy, pair, prompts)
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert same_text(first, write(policy, pair, prompts))


@every_policy
def test_one_eos_at_most_and_padding_behind_it(policy, pair, prompts):
    eos = pair.tokenizer.eos_token_id
    ended = 0
    for pad in (pair.tokenizer.pad_token_id, eos):
        rollout = write(policy, pair, prompts, pad_token_id=pad)
        for i in range(8):
            text = row(rollout, i)[0]
            ended += eos in text
            assert eos not in text[:-1]
            assert (rollout.completion_ids[i, len(text) :] == pad).all()
            assert (rollout.source[i, len(text) :] == Source.PADDING).all()
    assert ended or isinstance(policy, StopAtSwitch)


def test_several_eos_ids_each_end_a_row(pair, prompts):
    text = [row(write(OnPolicy(), pair, prompts, eos_token_id=[2, 7, 9]), i)[0] for i in range(8)]
    assert all(not {2, 7, 9} & set(t[:-1]) for t in text)
    assert {t[-1] for t in text} & {7, 9}


@settings(max_examples=20, deadline=None)
@given(
    st.builds(
        SwitchRule,
        multiplier=st.floats(0.5, 4),
        window=st.integers(1, 10),
        min_history=st.integers(0, 8),
        floor=st.sampled_from([0.0, 1.0, 3.0]),
    ),
    st.integers(1, 9),
)
def test_adaswitch_follows_the_rule(pair, prompts, rule, block_size):
    rollout = write(AdaSwitch(rule), pair, prompts, block_size=block_size)
    on_policy = write(OnPolicy(), pair, prompts)
    real = rollout.completion_mask.bool()
    assert torch.equal(rollout.switch_index, first_switch(rollout.divergence, real, rule))
    torch.testing.assert_close(rollout.threshold[real], switch_threshold(rollout.divergence, rule)[real])
    for i in range(8):
        ids, source, switch = row(rollout, i)
        own = switch if switch >= 0 else len(ids)
        assert source == [Source.STUDENT] * own + [Source.TEACHER] * (len(ids) - own)
        assert ids[:own] == row(on_policy, i)[0][:own]


def test_teacher_continues_greedily_from_the_tripping_token_on(pair, prompts):
    rollout = write(AdaSwitch(RULE), pair, prompts, temperature=0, keep_teacher_logits=True)
    teacher = rollout.source == Source.TEACHER
    student_logits = parallel_logits(pair, rollout)[1]
    assert teacher.any() and (rollout.source == Source.STUDENT).any()
    assert torch.equal(rollout.completion_ids[teacher], rollout.teacher_logits.argmax(-1)[teacher])
    student = rollout.source == Source.STUDENT
    assert torch.equal(rollout.completion_ids[student], student_logits.argmax(-1)[student])


def test_a_rule_that_never_trips_is_on_policy(pair, prompts):
    never, on_policy = (write(p, pair, prompts) for p in (AdaSwitch(SwitchRule(multiplier=math.inf)), OnPolicy()))
    assert same_text(never, on_policy)
    assert torch.equal(never.divergence.nan_to_num(), on_policy.divergence.nan_to_num())


def test_a_rule_that_trips_at_the_first_token_is_off_policy(pair, prompts):
    assert same_text(write(AdaSwitch(SwitchRule(min_history=0)), pair, prompts), write(OffPolicy(), pair, prompts))


def test_speculative_kd_with_the_whole_vocabulary_is_on_policy(pair, prompts):
    assert same_text(write(SpeculativeKD(top_k=len(pair.tokenizer)), pair, prompts), write(OnPolicy(), pair, prompts))


def test_speculative_kd_tests_the_token_it_keeps(pair, prompts):
    rollout = write(SpeculativeKD(top_k=6), pair, prompts, keep_teacher_logits=True)
    student_logits = parallel_logits(pair, rollout)[1]
    uniforms = row_uniforms(range(8), 24)
    seen = set()
    for i, pos in rollout.completion_mask.nonzero().tolist():
        drafted = sample(student_logits[i, pos][None], uniforms[i, pos, Source.STUDENT][None], 1.0)[0].item()
        inside = drafted in rollout.teacher_logits[i, pos].topk(6).indices.tolist()
        assert rollout.source[i, pos] == (Source.STUDENT if inside else Source.TEACHER)
        assert not inside or rollout.completion_ids[i, pos] == drafted
        seen.add(inside)
    assert seen == {True, False}


def test_speculative_kd_keeps_no_token_that_the_teacher_rules_out(prompts):
    pair = load_pair("tiny")
    ruled_out = torch.arange(20, len(pair.tokenizer))
    pair.teacher.lm_head.register_forward_hook(lambda _, __, out: out.index_fill(-1, ruled_out, -torch.inf))
    rollout = write(SpeculativeKD(top_k=25), pair, prompts)  # more than the twenty that are left
    assert (rollout.source == Source.TEACHER).any() and (rollout.completion_ids[rollout.completion_mask.bool()] < 20).all()


def test_per_token_switch_asks_the_teacher_exactly_where_jsd_exceeds_its_threshold(pair, prompts):
    rollout = write(PerTokenSwitch(0.4, 0.02), pair, prompts)
    real = rollout.completion_mask.bool()
    jsd = jensen_shannon(*parallel_logits(pair, rollout))
    position = torch.arange(jsd.shape[1]).expand_as(jsd)
    teacher = jsd > 0.4 * torch.exp(-0.02 * position)
    assert torch.equal((rollout.source == Source.TEACHER)[real], teacher[real])
    assert teacher[real].any() and not teacher[real].all()


def test_controls_switch_where_they_say(pair, prompts):
    adaswitch, stop, permuted, fixed = (
        write(policy, pair, prompts) for policy in (AdaSwitch(RULE), StopAtSwitch(RULE), RandomSwitch(RULE), FixedSwitch(0.25))
    )
    assert torch.equal(stop.switch_index, adaswitch.switch_index)
    for i in range(8):
        ids, _, switch = row(adaswitch, i)
        assert row(stop, i)[0] == (ids[:switch] if switch >= 0 else ids)
    assert sorted(permuted.switch_index.tolist()) == sorted(adaswitch.switch_index.tolist())
    assert not torch.equal(permuted.switch_index, adaswitch.switch_index)
    assert set(fixed.switch_index.tolist()) <= {6, -1} and 6 in fixed.switch_index


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_greedy_text_is_that_of_transformers(pair, prompts, who):
    ids, mask = prompts
    policy = OffPolicy() if who == "teacher" else OnPolicy()
    rollout = write(policy, pair, prompts, temperature=0)
    theirs = getattr(pair, who).generate(
        ids, attention_mask=mask, max_new_tokens=24, do_sample=False, pad_token_id=0, eos_token_id=pair.tokenizer.eos_token_id
    )[:, ids.shape[1] :]
    assert torch.equal(rollout.completion_ids, theirs)


def test_sampled_tokens_follow_the_model(pair):
    ids = torch.full((4000, 1), 5)
    rollout = write(OnPolicy(), pair, (ids, torch.ones_like(ids)), max_new_tokens=1)
    with torch.no_grad():
        probability = pair.student(ids[:1]).logits[0, -1].softmax(-1).double()
    likely = probability * 4000 >= 5
    counts = rollout.completion_ids[:, 0].bincount(minlength=len(probability))
    observed = [*counts[likely].tolist(), int(counts[~likely].sum())]
    expected = [*(probability[likely] * 4000).tolist(), float(probability[~likely].sum() * 4000)]
    assert chisquare(observed, [e * sum(observed) / sum(expected) for e in expected]).pvalue > 1e-3


def test_dropout_is_off_while_writing_and_every_mode_is_restored(prompts):
    pair = load_pair("tiny", architecture="gpt2")
    expected = write(AdaSwitch(RULE), pair, prompts)
    pair.student.train()
    frozen = pair.student.transformer.h[0]
    frozen.eval()
    modes = [module.training for module in pair.student.modules()]
    assert same_text(expected, write(AdaSwitch(RULE), pair, prompts))
    with torch.no_grad():
        pair.teacher.lm_head.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        write(AdaSwitch(RULE), pair, prompts)
    assert [module.training for module in pair.student.modules()] == modes
    assert not pair.teacher.training


def test_frame_has_one_line_per_real_token(pair, prompts):
    rollout = write(AdaSwitch(RULE), pair, prompts)
    frame = rollout.to_frame(pair.tokenizer)
    assert list(frame) == ["example", "pos", "token_id", "token", "source", "divergence", "threshold"]
    assert len(frame) == rollout.completion_mask.sum()
    third = frame[frame["example"] == 3]
    assert third["token_id"].tolist() == row(rollout, 3)[0]
    assert third["token"].tolist() == [pair.tokenizer.decode([i]) for i in row(rollout, 3)[0]]
    assert set(frame["source"]) == {"student", "teacher"}
    assert rollout.sequences.shape == rollout.attention_mask.shape == (8, 7 + rollout.completion_ids.shape[1])


@every_policy
def test_the_sampling_temperature_changes_neither_divergences_nor_kept_logits(policy, pair, prompts):
    rollout = write(policy, pair, prompts, temperature=0.5, keep_teacher_logits=True)
    teacher, student = parallel_logits(pair, rollout)
    real = rollout.completion_mask.bool()
    torch.testing.assert_close(rollout.teacher_logits[real], teacher[real], atol=1e-4, rtol=0)
    expected = DIVERGENCES[policy.divergence](teacher, student)
    torch.testing.assert_close(rollout.divergence[real], expected[real], atol=1e-4, rtol=0)


def greedy(model, ids, num_tokens, eos):
    """A loop without cache, batch or padding."""
    written = []
    while len(written) < num_tokens and eos not in written:
        written.append(int(model(torch.tensor([ids + written])).logits[0, -1].argmax()))
    return written


@torch.no_grad()
def test_from_the_switch_on_the_teacher_continues_what_the_student_wrote(pair, prompts):
    rollout = write(AdaSwitch(RULE), pair, prompts, temperature=0)
    eos, (ids, mask) = pair.tokenizer.eos_token_id, prompts
    switched = (rollout.switch_index > 0).nonzero()[:, 0].tolist()
    assert len(switched) > 3
    for i in switched:
        (text, _, switch), prompt = row(rollout, i), ids[i][mask[i].bool()].tolist()
        assert text[:switch] == greedy(pair.student, prompt, switch, eos)
        assert text[switch:] == greedy(pair.teacher, prompt + text[:switch], 24 - switch, eos)


@pytest.mark.parametrize("policy", [OnPolicy(), OffPolicy()], ids=lambda policy: type(policy).__name__)
def test_kept_logits_need_no_recorded_divergence(policy, pair, prompts):
    recorded, bare = (write(policy, pair, prompts, keep_teacher_logits=True, record_divergence=on) for on in (True, False))
    torch.testing.assert_close(recorded.teacher_logits, bare.teacher_logits, atol=1e-4, rtol=0)


def test_only_what_the_policy_needs_is_measured_where_recording_is_off(pair, prompts):
    assert write(OffPolicy(), pair, prompts, record_divergence=False).divergence.isnan().all()
    rollout = write(AdaSwitch(RULE), pair, prompts, record_divergence=False)
    assert (rollout.switch_index >= 0).any()
    for i, switch in enumerate(rollout.switch_index.tolist()):
        if switch < 0:
            continue
        assert rollout.divergence[i, : switch + 1].isfinite().all()
        assert rollout.divergence[i, switch + 1 :].isnan().all()


@pytest.mark.parametrize("first_seed", [0, 100, 200])
def test_random_switch_loses_no_position_and_moves_some(pair, prompts, first_seed):
    seeds = range(first_seed, first_seed + 8)
    adaswitch, permuted = (write(policy, pair, prompts, row_seeds=seeds) for policy in (AdaSwitch(RULE), RandomSwitch(RULE)))
    assert sorted(permuted.switch_index.tolist()) == sorted(adaswitch.switch_index.tolist())
    assert (permuted.switch_index != adaswitch.switch_index).sum() >= 2
    alone = write(RandomSwitch(RULE), pair, [tensor[:1] for tensor in prompts], row_seeds=[first_seed])
    assert alone.switch_index[0] == adaswitch.switch_index[0]


def test_a_fixed_share_that_is_whole_is_not_rounded_away(pair, prompts):
    fixed = write(FixedSwitch(0.29), pair, prompts, max_new_tokens=100, eos_token_id=[0])
    assert set(fixed.switch_index.tolist()) - {-1} == {29}


def test_fixed_switch_at_the_ends_is_off_policy_and_on_policy(pair, prompts):
    assert same_text(write(FixedSwitch(0.0), pair, prompts), write(OffPolicy(), pair, prompts))
    assert same_text(write(FixedSwitch(1.0), pair, prompts), write(OnPolicy(), pair, prompts))


def test_stop_at_the_first_token_leaves_empty_completions(pair, prompts):
    rollout = write(StopAtSwitch(SwitchRule(min_history=0)), pair, prompts, keep_teacher_logits=True)
    assert rollout.switch_index.tolist() == [0] * 8
    assert rollout.completion_ids.shape == rollout.teacher_logits.shape[:2] == (8, 0)
    assert torch.equal(rollout.sequences, prompts[0]) and rollout.to_frame(pair.tokenizer).empty


@pytest.mark.parametrize("policy", [OffPolicy(), SpeculativeKD(top_k=8)], ids=lambda policy: type(policy).__name__)
def test_dropout_of_the_teacher_is_off_too(policy, prompts):
    pair = load_pair("tiny", architecture="gpt2")
    expected = write(policy, pair, prompts)
    pair.teacher.train()
    assert same_text(expected, write(policy, pair, prompts))
    assert all(module.training for module in pair.teacher.modules())
    assert not any(module.training for module in pair.student.modules())


def test_padding_does_not_count_towards_the_longest_text_a_model_was_made_for(pair, prompts):
    limit = pair.teacher.config.max_position_embeddings
    padded = [torch.nn.functional.pad(tensor, (limit - 20, 0)) for tensor in prompts]
    assert same_text(write(OnPolicy(), pair, prompts, max_new_tokens=14), write(OnPolicy(), pair, padded, max_new_tokens=14))


@pytest.mark.parametrize(
    "policy", [AdaSwitch(SwitchRule(multiplier=1.2, min_history=1)), SpeculativeKD(top_k=2)], ids=["ada", "skd"]
)
def test_texts_may_fill_a_table_of_positions_to_its_end(policy):
    """Rows that are ahead of others draft beyond the last token allowed."""
    whole = load_pair("tiny", architecture="gpt2")
    for model in whole[:2]:
        model.config.eos_token_id = None
        model.transformer.wpe = torch.nn.Embedding.from_pretrained(model.transformer.wpe.weight[:32].detach())
        model.config.n_positions = 32
    prompts = torch.tensor([[4, 5, 6, 7]] * 8), torch.ones(8, 4, dtype=torch.long)
    by_block = [write(policy, whole, prompts, max_new_tokens=28, eos_token_id=0, block_size=size) for size in (1, 8)]
    assert int(by_block[0].completion_mask.sum(-1).max()) == 28 and same_text(*by_block)


def test_what_stands_in_the_padding_of_prompts_is_not_read(pair, prompts):
    ids, mask = prompts
    assert not mask.all()
    assert same_text(write(AdaSwitch(), pair, (ids.masked_fill(mask == 0, -100), mask)), write(AdaSwitch(), pair, prompts))


def test_prompts_of_any_integer_type_write_the_same(pair, prompts):
    narrow = tuple(tensor.int() for tensor in prompts)
    assert same_text(write(AdaSwitch(), pair, narrow), write(AdaSwitch(), pair, prompts))


@every_policy
def test_what_is_written_can_be_watched_token_by_token(policy, pair, prompts):
    ids, mask = prompts
    seen = []
    final = write(policy, pair, (ids[:1], mask[:1]), block_size=1, on_block=seen.append)
    lengths = [int(rollout.completion_mask.sum()) for rollout in seen]
    assert lengths == list(range(1, len(seen) + 1))
    end = int(final.completion_mask.sum())  # StopAtSwitch then drops the token at its switch
    assert all(torch.equal(part.completion_ids[0, :end], final.completion_ids[0, : min(n, end)]) for n, part in enumerate(seen, 1))


@pytest.mark.parametrize("policy", [OnPolicy(), FixedSwitch(0.5)], ids=lambda policy: type(policy).__name__)
def test_noise_replaces_the_students_tokens_alone_at_its_rate(policy, pair, prompts):
    ids, mask = (tensor.repeat(12, 1) for tensor in prompts)
    rollout = write(policy, pair, (ids, mask), temperature=0, student_noise=0.3)
    teacher, student = (logits.argmax(-1) for logits in parallel_logits(pair, rollout))
    by_student, by_teacher = rollout.source == Source.STUDENT, rollout.source == Source.TEACHER
    assert float((rollout.completion_ids != student)[by_student].float().mean()) == pytest.approx(0.3, abs=0.03)
    assert (rollout.completion_ids == teacher)[by_teacher].all()


def test_noise_ends_no_text_and_leaves_other_draws_alone(pair, prompts):
    blown = write(OnPolicy(), pair, prompts, student_noise=1.0)
    assert (blown.completion_mask == 1).all() and not (blown.completion_ids == pair.tokenizer.eos_token_id).any()
    plain, noisy = write(OnPolicy(), pair, prompts), write(OnPolicy(), pair, prompts, student_noise=0.02)
    same = (plain.completion_ids == noisy.completion_ids).long().cumprod(-1).sum(-1)
    assert (same > 3).any() and (same < plain.completion_ids.shape[1]).any()


def test_the_teacher_may_write_at_a_temperature_of_its_own(pair, prompts):
    rollout = write(FixedSwitch(0.5), pair, prompts, teacher_temperature=0)
    teacher, _ = parallel_logits(pair, rollout)
    by_teacher = rollout.source == Source.TEACHER
    assert (rollout.completion_ids == teacher.argmax(-1))[by_teacher].all()
    sampled = write(FixedSwitch(0.5), pair, prompts)
    assert torch.equal(rollout.completion_ids[:, :12], sampled.completion_ids[:, :12])
    assert not same_text(rollout, sampled)
