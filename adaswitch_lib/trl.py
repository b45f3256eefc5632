"""AdaSwitch on TRL's `DistillationTrainer`: for people's own models and data. Needs the extra `trl`.

TRL has what surrounds a rollout: data formats and chat templates, LoRA, a loss that never holds the logits, trackers, checkpoints,
many processes. What is here is the rollout: a policy that writes the completions, with models that each process holds whole.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, fields, replace
from itertools import groupby
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import is_torch_bf16_gpu_available

from adaswitch_lib.checks import RowCheck
from adaswitch_lib.generation import Policy, generate
from adaswitch_lib.methods import METHODS
from adaswitch_lib.models import check_shared_vocabulary, eos_token_ids, num_scored_ids
from adaswitch_lib.policies import AdaSwitch, FixedSwitch, OnPolicy, StopAtSwitch
from adaswitch_lib.rollout import Rollout, Source, switch_means, switch_sums
from adaswitch_lib.switching import SwitchRule
from adaswitch_lib.trainer import row_seed

TESTED = "trl>=1.11,!=1.15.*,<1.17"
"""The versions of TRL that the tests cover; 1.15 runs on GPUs alone."""
try:
    import trl
    from trl import DistillationConfig, DistillationTrainer
    from trl.models import prepare_deepspeed
    from trl.models.utils import unwrap_model_for_generation

    from adaswitch_lib.trl_weights import cut_head, unsharded
except ImportError as error:
    raise ImportError(f"adaswitch_lib.trl needs TRL with a DistillationTrainer, pip install '{TESTED}': {error}") from error

POLICIES = {name: m.policy for name, m in METHODS.items() if m.policy and (m.loss, m.data_share) == ("forward_kl", 0.0)}
"""Name -> policy, of the methods that differ in nothing but who writes."""

WRITE_FIRST = (OnPolicy, AdaSwitch, FixedSwitch)
"""Policies by which the student writes up to a switch, and not again."""


def check_trl(trainer: type) -> None:
    """Raise ImportError where TRL's trainer lacks a method that is replaced or called here, or gives it other arguments."""
    used = {
        "_generate_single_turn": {"prompt_ids"},
        "_generate_and_score_completions": {"inputs"},
        "_tokenize_prompts": {"prompts"},
        "_compute_loss": {"unwrapped_student", "inputs", "num_items_in_batch"},
    }
    for name, arguments in used.items():
        if not arguments <= {*inspect.signature(getattr(trainer, name, lambda: None)).parameters}:
            raise ImportError(f"TRL {trl.__version__} has changed DistillationTrainer.{name}: pip install '{TESTED}'.")


check_trl(DistillationTrainer)


@dataclass
class AdaSwitchConfig(DistillationConfig):
    """TRL's `DistillationConfig`, and who writes the completions.

    Attributes:
        policy: the name of one in `POLICIES`. One with settings of your own goes to the trainer.
        multiplier, window, min_history, floor: when to switch, see `SwitchRule`; for policies that have a rule.
        block_size: as in `generate`; 8, or with vLLM 128.
        use_vllm: the student explores in vLLM; for policies that do not give back to it.
        beta: of TRL's loss. The default here is forward KL, as in the paper, and not reverse KL.
        bf16: the default here is what the machine has.

    Raises:
        ValueError: for an unknown policy, a rule out of range, and settings of TRL's sampler; the message says which.
    """

    policy: str = field(default="adaswitch", metadata={"help": f"Who writes the completions: {', '.join(POLICIES)}."})
    multiplier: float = field(default=SwitchRule.multiplier, metadata={"help": "K: d must exceed K times its recent mean."})
    window: int = field(default=SwitchRule.window, metadata={"help": "L: the tokens that the mean runs over."})
    min_history: int = field(default=SwitchRule.min_history, metadata={"help": "Tokens before the rule may trip."})
    floor: float = field(default=SwitchRule.floor, metadata={"help": "The least threshold, in nats."})
    block_size: int | None = field(default=None, metadata={"help": "Tokens drafted before the other model scores them."})
    beta: float = field(default=0.0, metadata={"help": "The loss: 0 is forward KL, 1 reverse KL, between them Jensen-Shannon."})

    def __post_init__(self):
        if self.bf16 is None:
            self.bf16 = is_torch_bf16_gpu_available() and not (self.fp16 or self.use_cpu)
        super().__post_init__()
        if self.block_size is None:
            self.block_size = 128 if self.use_vllm else 8
        if self.policy not in POLICIES:
            raise ValueError(f"unknown policy {self.policy!r}: use one of {', '.join(POLICIES)}.")
        self.make_policy()
        defaults = {each.name: each.default for each in fields(self)}
        sampler = ("top_p", "top_k", "min_p", "repetition_penalty", "generation_kwargs", "cache_implementation")
        if changed := [name for name in sampler if getattr(self, name) != defaults[name]]:
            raise ValueError(f"rollouts are sampled by `generate`, from the full softmax: leave out {', '.join(changed)}.")

    def make_policy(self) -> Policy:
        policy, rule = POLICIES[self.policy], SwitchRule(self.multiplier, self.window, self.min_history, self.floor)
        return replace(policy, rule=rule) if hasattr(policy, "rule") else policy


class AdaSwitchTrainer(DistillationTrainer):
    """TRL's `DistillationTrainer`, with completions that a policy writes.

    A row's text depends on `args.seed`, the step, the row's position in the optimiser batch and its prompt; so not on the number
    of processes (but `RandomSwitch` permutes positions within a process). The loss runs over the ids that the tokenizer has.

    Args:
        model, args, more, named: as in TRL.
        teacher_model: a hub id, a folder or a model. It has the student's tokenizer, but may score more ids, or fewer.
        policy: who writes; then `args` have no say in it.

    Raises:
        ValueError: for what cannot be trained, before the first step; the message says what to do.
    """

    _tag_names = ["trl", "distillation", "adaswitch"]
    _name = "AdaSwitch"
    _paper = {"title": "AdaSwitch: Adaptive Switching Generation for Knowledge Distillation", "id": "2510.07842"}

    def __init__(
        self,
        model: str | PreTrainedModel,
        teacher_model: str | PreTrainedModel,
        args: AdaSwitchConfig | None = None,
        *more: Any,
        policy: Policy | None = None,
        **named: Any,
    ):
        name = model if isinstance(model, str) else model.config.name_or_path
        args = args or AdaSwitchConfig(f"{name.rstrip('/').split('/')[-1] or 'student'}-AdaSwitch")
        if not isinstance(args, AdaSwitchConfig):
            raise ValueError(f"args must be an AdaSwitchConfig, got {type(args).__name__}.")
        if teacher_model is model and not isinstance(model, str):
            raise ValueError("teacher and student are one model: train a copy, copy.deepcopy(model).")
        self.policy = args.make_policy() if policy is None else policy
        if not isinstance(self.policy, Policy):
            raise ValueError(f"policy must be one like AdaSwitch(), got {policy!r}: a name goes to AdaSwitchConfig(policy=…).")
        if isinstance(self.policy, StopAtSwitch) and self.policy.rule.min_history == 0:
            raise ValueError("a row that is cut at its first token is empty: set min_history to 1 or more.")
        if args.use_vllm and not isinstance(self.policy, WRITE_FIRST):
            raise ValueError(f"in vLLM the student writes to its end, which {self.policy} does not let it: leave out use_vllm.")
        super().__init__(model, None, args, *more, **named)  # TRL itself refuses a teacher that scores another number of ids
        self.accelerator.gradient_accumulation_steps = 1  # old transformers have it divide the loss once more
        if self._is_vlm or self.tools:
            raise ValueError("a policy writes text from text: pass a tokenizer as processing_class, and no tools.")
        teacher, tokenizer = self._load_teacher(teacher_model)
        self.eos_token_ids = eos_token_ids(self._tokenizer, teacher, self.model)
        self.vocab_size = check_shared_vocabulary(teacher, self.model, tokenizer, self._tokenizer)
        if args.use_vllm:  # ids that the tokenizer lacks are not written
            padding = dict.fromkeys(range(self.vocab_size, num_scored_ids(self.model)), -100.0)
            self.vllm_generation.generation_kwargs = {"stop_token_ids": self.eos_token_ids, "logit_bias": padding or None}
        self.teacher_model = self._prepare_teacher(teacher.eval().requires_grad_(False))
        self._check_prompts(teacher)

    def _load_teacher(self, teacher: str | PreTrainedModel) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The teacher and its tokenizer; of one that is a model already, the student's."""
        if not isinstance(teacher, str):
            return teacher, self._tokenizer
        source = {"revision": self.args.teacher_model_revision or "main", "trust_remote_code": self.args.trust_remote_code}
        settings = {"dtype": "float32"} | source | (self.args.teacher_model_init_kwargs or {})  # TRL's default type
        return AutoModelForCausalLM.from_pretrained(teacher, **settings), AutoTokenizer.from_pretrained(teacher, **source)

    def _prepare_teacher(self, teacher: PreTrainedModel) -> nn.Module:
        if self.is_deepspeed_enabled:
            if not self.args.ds3_gather_for_generation:
                raise ValueError("processes make different numbers of passes: leave ds3_gather_for_generation true.")
            return prepare_deepspeed(teacher, self.accelerator)
        if self.is_fsdp_enabled:
            plugin = self.accelerator.state.fsdp_plugin
            if plugin.fsdp_version != 2 or plugin.cpu_ram_efficient_loading:
                raise ValueError(
                    "set fsdp_version: 2, whose weights can be gathered for a rollout, and fsdp_cpu_ram_efficient_loading: false, "
                    "since each process loads the whole teacher."
                )
            teacher = teacher.to(self.accelerator.device)  # accelerate leaves it where it is
        return self.accelerator.prepare_model(teacher, evaluation_mode=True)

    def _check_prompts(self, teacher: PreTrainedModel) -> None:
        """Refuse rows without a prompt, and those that do not fit; the rows of a stream are met as they come."""
        columns = getattr(self.train_dataset, "column_names", None) or ["prompt"]
        if "prompt" not in columns:
            raise ValueError(
                f"train_dataset has no column prompt, but {', '.join(columns)}. Of chats with their answers make prompts by "
                "train_dataset.map(lambda row: {'prompt': row['messages'][:-1]})."
            )
        if isinstance(self.train_dataset, Dataset):
            models = {"teacher": teacher, "student": self.model}
            check = RowCheck(METHODS["adaswitch"], self.max_completion_length, models, self._tokenizer)
            ids = (ids for rows in self.train_dataset.iter(1000) for ids in self._tokenize_prompts(rows["prompt"])[0])
            for place, prompt_ids in enumerate(ids):
                check.one({"place": place, "prompt_ids": prompt_ids, "completion_ids": []})

    def _generate_single_turn(self, prompt_ids: list[list[int]], *more: Any, **named: Any) -> list[list[int]]:
        """Completions for these prompts; what is known of them goes to the log."""
        texts = super()._generate_single_turn(prompt_ids, *more, **named) if self.use_vllm else None
        rollout = self.write(prompt_ids, texts)
        means = switch_means(self.accelerator.reduce(switch_sums(rollout), "sum"))
        for name in ("switch_rate", "switch_position", "switch_divergence", "teacher_share"):
            self._metrics["train" if self.model.training else "eval"][name].append(means[name])
        self._runs = runs(rollout, self._tokenizer) if self.log_completions else []
        lengths = rollout.completion_mask.sum(-1).tolist()
        return [ids[:length] for ids, length in zip(rollout.completion_ids.tolist(), lengths, strict=True)]

    def write(self, prompt_ids: list[list[int]], student_ids: list[list[int]] | None = None) -> Rollout:
        """One completion a prompt, by the policy; `student_ids` are the student's own, where it has written elsewhere."""
        pad_token_id = self._tokenizer.pad_token_id

        def padded(rows: list[list[int]], value: int, side: str) -> Tensor:
            tensors = [torch.tensor(row, device=self.accelerator.device) for row in rows]
            return pad_sequence(tensors, batch_first=True, padding_value=value, padding_side=side)

        with (
            self._whole(self.teacher_model) as teacher,
            self._whole(self.model_wrapped) as student,
            self.accelerator.autocast(),  # the models have it in their forward; here it says how exact their logits are
        ):
            return generate(
                self.policy,
                teacher,
                student,
                padded(prompt_ids, pad_token_id, "left"),
                padded([[1] * len(ids) for ids in prompt_ids], 0, "left"),
                max_new_tokens=self.max_completion_length,
                row_seeds=self.row_seeds(prompt_ids),
                temperature=self.temperature,
                eos_token_id=self.eos_token_ids,
                pad_token_id=pad_token_id,
                block_size=self.args.block_size,
                record_divergence=False,
                vocab_size=self.vocab_size,
                student_ids=None if student_ids is None else padded(student_ids, pad_token_id, "right"),
            )

    def row_seeds(self, prompt_ids: list[list[int]]) -> list[int]:
        """One a row of this process, in this step."""
        first = self.accelerator.process_index * len(prompt_ids)
        return [row_seed(self.args.seed, self.state.global_step, first + i, *ids) for i, ids in enumerate(prompt_ids)]

    def _whole(self, wrapped: nn.Module):
        """The model in it with all its weights, so that each process may make as many passes as its own rows need."""
        plugin = self.accelerator.state.deepspeed_plugin
        if plugin is not None and plugin.zero_stage == 3:
            return unwrap_model_for_generation(wrapped, self.accelerator)
        return unsharded(self.accelerator.unwrap_model(wrapped))

    def _compute_loss(self, unwrapped_student: PreTrainedModel, inputs: dict[str, Any], num_items_in_batch: Tensor | None):
        teacher = self.accelerator.unwrap_model(self.teacher_model)
        with cut_head(teacher, self.vocab_size), cut_head(unwrapped_student, self.vocab_size):
            return super()._compute_loss(unwrapped_student, inputs, num_items_in_batch)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """As in TRL, but that its table of completions shows who wrote what."""
        output = super()._generate_and_score_completions(inputs)
        table, written = self._logs["completion"], gather_object(self._runs)
        for _ in range(min(len(table), len(written))):
            table.pop()
        table.extend(written)
        return output


def runs(rollout: Rollout, tokenizer: PreTrainedTokenizerBase) -> list[list[dict[str, str]]]:
    """Each row as messages, one for each run of tokens by one writer: [{"role": "student", "content": "…"}, …]."""
    rows = []
    for ids, sources, mask in zip(rollout.completion_ids, rollout.source, rollout.completion_mask.bool(), strict=True):
        by_writer = groupby(zip(sources[mask].tolist(), ids[mask].tolist(), strict=True), key=lambda token: token[0])
        row = [(Source(source).name.lower(), [token for _, token in tokens]) for source, tokens in by_writer]
        rows.append([{"role": writer, "content": tokenizer.decode(tokens, skip_special_tokens=True)} for writer, tokens in row])
    return rows
