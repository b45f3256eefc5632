"""How tokens get written: `generate` has a policy write one completion a prompt.

`request` checks what is asked for and `supported` whether the models can do it, `session` writes blocks of tokens, `decoder` is a
model with a key-value cache that rows can leave, `static` the same in buffers that stay where they are, for a GPU, and `sampling`
draws tokens from row seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adaswitch_lib.generation.request import Request
from adaswitch_lib.generation.session import Session
from adaswitch_lib.generation.supported import eval_mode
from adaswitch_lib.rollout import Rollout


class Policy:
    """Who writes which token. `divergence` names the d_i that its rollouts record."""

    divergence: str = "forward_kl"

    def write(self, session: Session) -> None:
        """Write every row of the session to its end."""
        raise NotImplementedError

    def threshold(self, session: Session) -> Tensor | None:
        """τ_i that this policy holds the session's d_i against, shape [batch pos]; None if it has no threshold."""
        return None


@torch.no_grad()
def generate(
    policy: Policy,
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    *,
    max_new_tokens: int,
    row_seeds: Sequence[int],
    temperature: float = 1.0,
    teacher_temperature: float | None = None,
    student_noise: float = 0.0,
    eos_token_id: int | Sequence[int],
    pad_token_id: int,
    block_size: int = 8,
    record_divergence: bool = True,
    keep_teacher_logits: bool = False,
    vocab_size: int | None = None,
    student_ids: Tensor | None = None,
    on_block: Callable[[Rollout], None] | None = None,
) -> Rollout:
    """Write one completion a prompt by `policy`.

    Both models run in eval mode without gradients and are left in the mode they came in. The global
    random state is not touched. A row depends on its prompt and its seed alone, up to rounding: in float32 so rarely another token
    that tests have not met it, in bfloat16 in some rows of a batch.

    Args:
        policy: who writes which token.
        teacher, student: causal LMs over one vocabulary, on the device of the prompts; one that `device_map` has spread over
            several devices stays where it is.
        prompt_ids, prompt_mask: shape [batch prompt], padded on the left; the mask is 1 on real tokens.
        max_new_tokens: tokens a completion may have.
        row_seeds: one integer a row.
        temperature: of sampling, from the full softmax; 0 is greedy. Divergences are always measured at 1.
        teacher_temperature: of the tokens that the teacher writes. Default: that of the student's.
        student_noise: share of the student's tokens that are replaced by a random one, EOS excepted, as a disturbance that the
            student has to live with. They count as the student's, and policies judge what stands in the text.
        eos_token_id: ends a row when either model writes it; one id or several.
        pad_token_id: fills completions behind their end; may be the EOS id.
        block_size: tokens that one model drafts before the other scores them. Changes the speed, not the text (up to rounding).
        record_divergence: measure d_i at every token. Off, it is measured only where the policy has both models score the
            token and NaN elsewhere, which saves the scoring pass of the model that does not write.
        keep_teacher_logits: hand over the teacher's logits at every token, so that a loss needs no second
            teacher pass.
        vocab_size: how many ids, from 0, the tokenizer has (`Pair.vocab_size`). What lies behind them is padding of the
            embeddings: it is never written and counts in no sum. Default: what both models score.
        student_ids: the student's texts, where another engine has written them, shape [batch pos]: what follows an EOS counts
            for nothing. Both models then read them, `block_size` tokens in a pass, up to the switch.
        on_block: called after each block with what is written so far; with a `block_size` of 1, token by token.

    Returns:
        A `Rollout`, as wide as its longest completion.

    Raises:
        ValueError: if the request cannot be carried out; the message says what to do.
    """
    request = Request(**{name: value for name, value in locals().items() if name not in ("policy", "on_block")})
    if not isinstance(policy, Policy):
        raise ValueError(f"policy must be one like AdaSwitch(), got {policy!r}: a method has its own, METHODS['adaswitch'].policy.")
    with eval_mode(teacher, student):
        session = Session(request, policy.divergence)
        if on_block is not None:
            session.on_block = lambda: on_block(session.rollout(policy.threshold(session)))
        policy.write(session)
    return session.rollout(policy.threshold(session))
