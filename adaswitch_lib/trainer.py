"""Train a student by a method: `transformers.Trainer` with rollouts for the whole optimiser batch at once."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

from adaswitch_lib.checks import RowCheck, check_arguments, check_models, check_undivided
from adaswitch_lib.data import RowCollator
from adaswitch_lib.generation import generate
from adaswitch_lib.generation.supported import check_supported, eval_mode
from adaswitch_lib.losses import completion_logits, distillation_loss, nll_loss
from adaswitch_lib.methods import Method
from adaswitch_lib.models import eos_token_ids, is_spread
from adaswitch_lib.policies import OnPolicy
from adaswitch_lib.rollout import NonFiniteLogits, Rollout, Source, switch_means, switch_sums

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


def rows_at_once(model: PreTrainedModel) -> int:
    """How many rows of similar length go through the models together in the loss: few, so that little of it is padding. A CPU
    is busy with fewer rows, the wider the model is."""
    return 16 if model.device.type != "cpu" else max(2, min(16, 2048 // model.config.get_text_config().hidden_size))


@dataclass
class RolloutConfig(TrainingArguments):
    """`TrainingArguments`, and how rollouts are made.

    Attributes:
        max_new_tokens: tokens a completion may have.
        sampling_temperature: of the text that is learned from. The switch is always judged at 1.
        loss_temperature: divides both logits in the loss.
        block_size: as in `generate`.
        kept_logits_limit: bytes that the teacher's logits of a whole optimiser batch may take. Where they take more, the
            teacher reads each micro-batch again.
    """

    max_new_tokens: int = 64
    sampling_temperature: float = 1.0
    loss_temperature: float = 1.0
    block_size: int = 8
    kept_logits_limit: int = 2**30
    logging_steps: float = 1  # what is logged of a step is of that step alone

    def __post_init__(self):
        self.remove_unused_columns = False
        self.logging_nan_inf_filter = False  # it would log a loss of its own
        self.dataloader_pin_memory &= torch.cuda.is_available()  # torch warns at every training on a CPU
        super().__post_init__()
        self.accelerator_config.dispatch_batches = False  # one process cannot cut up rollouts for the others


class RolloutTrainer(Trainer):
    """Distils `teacher` into `model` by `method`.

    Before each optimiser step the method's policy writes the completions of all its micro-batches in one call of `generate`; the
    loss is Σ token loss / Σ tokens over all micro-batches and processes. A row's seed comes from `args.seed`, the step and the
    row's position in the optimiser batch. So a row that comes twice gets two texts, and neither gradient accumulation nor the
    number of processes changes a step; but `RandomSwitch` permutes positions within a process, several processes see some rows
    twice in the last step of an epoch that does not divide, and they divide the shards of a stream that has several.
    What happened in a step goes to `state.log_history`, beside the loss, and from there into checkpoints. What cannot be trained
    is refused before the first step (`checks`); the rows of a stream are checked as they come.

    Args:
        model: the student; may be a `peft` model.
        teacher: needed by every method but SFT; None for SFT. It is frozen, put in eval mode and moved to the student's device,
            unless `device_map` has spread it over several: then it stays where it is.
        method: see `METHODS`.
        args: a `RolloutConfig`; for a stream with `max_steps`.
        train_dataset: rows with `prompt_ids` and `completion_ids`, as `encode_rows` makes them, or a stream of such rows.
        tokenizer: gives the EOS and padding ids; where the models were made to stop at others, too, those count as well.
        scorer: what evaluation does: from the student, in eval mode and without gradients, to metric -> value.

    Raises:
        ValueError: for what cannot be trained; the message says what to do.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        teacher: PreTrainedModel | None,
        method: Method,
        args: RolloutConfig,
        train_dataset: Dataset | IterableDataset,
        tokenizer: PreTrainedTokenizerBase,
        scorer: Callable[[PreTrainedModel], dict[str, float]] | None = None,
        **trainer_arguments: Any,
    ):
        models = {"student": model} if teacher is None else {"student": model, "teacher": teacher}
        check_models(models, method, tokenizer)
        check_arguments(args, has_scorer=scorer is not None)
        row_check = RowCheck(method, args.max_new_tokens, models, tokenizer)
        streamed = not hasattr(train_dataset, "__len__")
        if not streamed:
            row_check.all(train_dataset)
        super().__init__(
            model,
            args,
            data_collator=RowCollator(tokenizer.pad_token_id, row_check.num_ids, row_check.one if streamed else None),
            train_dataset=train_dataset,
            eval_dataset=train_dataset if scorer else None,  # evaluation is `scorer`, which has rows of its own
            processing_class=tokenizer,
            **trainer_arguments,
        )
        check_undivided(self)
        self.model_accepts_loss_kwargs = True  # our loss is divided by the token count of the whole batch
        self.accelerator.gradient_accumulation_steps = 1  # old transformers have it divide the loss once more
        self.teacher = None if teacher is None else _placed(teacher, args.device)
        for each in models.values():
            check_supported(each, row_check.num_ids, each.device)
        self.method = method
        self.scorer = scorer
        self.vocab_size = row_check.num_ids
        self.eos_token_ids = eos_token_ids(tokenizer, *models.values())
        self._record: dict[str, float] = {}
        self._step_start = time.perf_counter()

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, Tensor | None]:
        """The micro-batches of one optimiser step, as rollouts, and the number of tokens in all of them."""
        self._step_start = time.perf_counter()
        data = [rows.to(device) for _, rows in zip(range(num_batches), epoch_iterator, strict=False)]
        if len(data) < num_batches:  # a stream has come to its end
            if self.state.global_step == 0:
                raise ValueError("train_dataset is a stream with fewer rows than one optimiser batch has.")
            return [], None
        sizes = [len(rows.switch_index) for rows in data]
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        positions = [(n * world + rank) * self.args.train_batch_size + i for n, size in enumerate(sizes) for i in range(size)]
        rollout = self.write(Rollout.join(data), positions)
        sums = self.accelerator.reduce(switch_sums(rollout), "sum")
        num_tokens = sums[1].to(torch.float32)
        self._record = switch_means(sums) | {"write_seconds": time.perf_counter() - self._step_start}
        self._entropy = torch.zeros((), device=device)
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return [{"rollout": rollout.rows(range(a, a + n))} for a, n in zip(starts, sizes, strict=True)], num_tokens

    def write(self, rows: Rollout, positions: list[int]) -> Rollout:
        """What the student learns from in this step, for rows of the data and their positions in the batch of all processes."""
        policy = self.method.policy
        seeds = [row_seed(self.args.seed, self.state.global_step, position) for position in positions]
        by_policy = [i for i, seed in enumerate(seeds) if policy is not None and _coin(seed) >= self.method.data_share]
        if not by_policy:
            return rows
        all_by_policy = len(by_policy) == len(seeds)
        asked = rows.rows(by_policy)
        with self.accelerator.autocast():  # texts come from the distributions that the loss will see
            rollout = generate(
                policy,
                self.teacher,
                self.accelerator.unwrap_model(self.model),
                asked.prompt_ids,
                asked.prompt_mask,
                max_new_tokens=self.args.max_new_tokens,
                row_seeds=[seeds[i] for i in by_policy],
                temperature=self.args.sampling_temperature,
                eos_token_id=self.eos_token_ids,
                pad_token_id=self.processing_class.pad_token_id,
                block_size=self.args.block_size,
                record_divergence=False,
                keep_teacher_logits=all_by_policy and self._keeps_logits(len(seeds)),
                vocab_size=rows.vocab_size,
            )
        if all_by_policy:
            return rollout
        from_data = [i for i in range(len(seeds)) if i not in set(by_policy)]
        order = torch.tensor(by_policy + from_data).argsort().tolist()
        return Rollout.join([rollout, rows.rows(from_data)]).rows(order)

    def _keeps_logits(self, rows: int) -> bool:
        """Whether the scores that the teacher gives while it writes or judges serve the loss, too."""
        if self.method.loss == "nll" or isinstance(self.method.policy, OnPolicy):
            return False  # where the teacher only reads when the student is done, one pass over all of it is cheaper
        tokens = rows * (self.args.max_new_tokens + self.args.block_size)
        return tokens * self.vocab_size * self.teacher.dtype.itemsize <= self.args.kept_logits_limit

    def compute_loss(
        self, model, inputs: dict[str, Rollout], return_outputs: bool = False, num_items_in_batch: Tensor | None = None
    ):
        """Σ token loss / tokens of the whole optimiser batch. NonFiniteLogits where that is NaN or infinite: it names the model."""
        loss = 0.0
        for rollout in inputs["rollout"].by_length(rows_at_once(self.accelerator.unwrap_model(model))):
            logits = completion_logits(model, rollout)
            loss = loss + self._loss_of(rollout, logits, num_items_in_batch)
            self._entropy += _entropy_sum(logits.detach(), rollout.completion_mask) / num_items_in_batch
        if not loss.isfinite():
            raise NonFiniteLogits(self._broken(inputs["rollout"]), "NaN or infinite logits")
        # processes average their gradients, but each has its share of one sum
        loss = loss * self.accelerator.num_processes
        return (loss, {}) if return_outputs else loss

    def _loss_of(self, rollout: Rollout, logits: Tensor, num_tokens: Tensor) -> Tensor:
        mask = rollout.completion_mask
        if self.method.loss == "nll":
            return nll_loss(logits, rollout.completion_ids, mask, num_tokens)
        teacher_logits = rollout.teacher_logits
        if teacher_logits is None:
            with torch.no_grad(), self.accelerator.autocast():  # as while it writes
                teacher_logits = completion_logits(self.teacher, rollout)
        return distillation_loss(teacher_logits, logits, mask, self.method.loss, self.args.loss_temperature, num_tokens)

    def _broken(self, rollout: Rollout) -> Source:
        """The model whose logits are at fault for a loss that is no number."""
        if self.teacher is not None:
            with torch.no_grad(), self.accelerator.autocast():
                logits = completion_logits(self.teacher, rollout)[rollout.completion_mask.bool()]
            if not logits.float().logsumexp(-1).isfinite().all():
                return Source.TEACHER
        return Source.STUDENT

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Score the student; the metrics go to the log under `metric_key_prefix`."""
        if self.scorer is None:
            raise ValueError("evaluation needs a scorer: pass scorer= to the trainer.")
        model = self.accelerator.unwrap_model(self.model)
        with self.accelerator.autocast(), torch.no_grad(), eval_mode(model):
            metrics = self.scorer(model)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As in `Trainer`, with what is known of the step."""
        if "loss" in logs:
            entropy = float(self.accelerator.reduce(self._entropy, "sum"))
            logs = logs | self._record | {"entropy": entropy, "step_seconds": time.perf_counter() - self._step_start}
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: the inputs are rollouts."""
        return 0


def row_seed(*parts: int) -> int:
    """One seed of 32 bits from several numbers; a change in any gives another."""
    return zlib.crc32(repr(parts).encode())


def _placed(teacher: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """The teacher, frozen, in eval mode and on the device; where its layers are spread over several, they stay there."""
    if not is_spread(teacher) and teacher.device != device:  # a quantized one, which is there already, refuses to be moved
        teacher = teacher.to(device)
    return teacher.eval().requires_grad_(False)


def _coin(seed: int) -> float:
    """A number in [0, 1) from a row's seed, apart from those that its tokens are drawn by."""
    return zlib.crc32(b"data" + str(seed).encode()) / 2**32


def _entropy_sum(logits: Tensor, mask: Tensor) -> Tensor:
    """Σ_real entropy of the next-token distribution, nats; row by row, since logits may be large."""
    total = logits.new_zeros((), dtype=torch.float32)
    for row, real in zip(logits, mask.bool(), strict=True):
        log_p = row[real].float().log_softmax(-1)
        total -= (log_p.exp() * log_p).nan_to_num().sum()
    return total
