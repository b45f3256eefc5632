"""What several tests need."""

import signal

import torch

from adaswitch_lib import completion_logits, generate, load_pair


def write(policy, pair, prompts, **changes):
    ids, mask = prompts
    settings = dict(
        max_new_tokens=24,
        row_seeds=range(len(ids)),
        eos_token_id=pair.tokenizer.eos_token_id,
        pad_token_id=pair.tokenizer.pad_token_id,
    )
    return generate(policy, pair.teacher, pair.student, ids, mask, **(settings | changes))


def same_text(a, b):
    return all(
        torch.equal(getattr(a, name), getattr(b, name)) for name in ("completion_ids", "completion_mask", "source", "switch_index")
    )


def row(rollout, i):
    """Ids, sources and switch of one row, without padding."""
    n = int(rollout.completion_mask[i].sum())
    return rollout.completion_ids[i, :n].tolist(), rollout.source[i, :n].tolist(), int(rollout.switch_index[i])


@torch.no_grad()
def parallel_logits(pair, rollout):
    return completion_logits(pair.teacher, rollout), completion_logits(pair.student, rollout)


def obeys_interrupts():
    """For `preexec_fn`: whoever is started in the background ignores Ctrl-C, and so do those that he starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


SMALL = {
    "num_prompts": 8,
    "steps": 2,
    "batch_size": 4,
    "micro_batch": 2,
    "eval_every": 2,
    "validation_rows": 2,
    "test_rows": 4,
    "traced_rows": 1,
    "max_prompt_tokens": 64,
    "max_new_tokens": 16,
}
"""Settings that make a run on real tasks one of seconds."""


def saved(folder, architecture="llama", more=(0, 0)):
    """Folders of a tiny teacher and student whose embeddings are padded by different numbers of ids."""
    pair = load_pair("tiny", architecture=architecture)
    for name, extra in zip(("teacher", "student"), more, strict=True):
        model = getattr(pair, name)
        model.resize_token_embeddings(len(pair.tokenizer) + extra, mean_resizing=False)
        model.save_pretrained(folder / name)
        pair.tokenizer.save_pretrained(folder / name)
    return str(folder / "teacher"), str(folder / "student")
