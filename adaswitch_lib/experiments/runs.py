"""Run, resume, skip what is done.

A run works in `results/<preset>/work/<id>/`, where its checkpoints lie, and ends by adding its rows to the
preset's tables (`records`). A lock on the folder keeps two processes from the same run; it goes when the process does.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from filelock import FileLock, Timeout
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None

from adaswitch_lib.data import encode_rows
from adaswitch_lib.experiments import records
from adaswitch_lib.experiments.config import Pretrained, RunConfig
from adaswitch_lib.experiments.evaluation import evaluate
from adaswitch_lib.experiments.paths import results_dir
from adaswitch_lib.experiments.presets import PRESETS
from adaswitch_lib.experiments.pretraining import arguments, last_checkpoint, quiet, train_on_data, train_or_resume, untrained
from adaswitch_lib.experiments.progress import StepBar, log_lines, logger, watched
from adaswitch_lib.experiments.rollout_analysis import look_at_texts, trace
from adaswitch_lib.experiments.tasks import TASKS, limited
from adaswitch_lib.experiments.tasks.task import Task
from adaswitch_lib.experiments.teachers import load_teacher
from adaswitch_lib.generation.session import NonFiniteLogits
from adaswitch_lib.models import Pair, check_shared_vocabulary, cut_to
from adaswitch_lib.rollout import Source
from adaswitch_lib.trainer import RolloutConfig, RolloutTrainer

JOBS = 1 if torch.cuda.is_available() else os.cpu_count() or 1
"""Runs at a time that suit this machine."""


def run_all(configs: Sequence[RunConfig], jobs: int = JOBS) -> None:
    """Make all runs that are not done yet, `jobs` at a time, each in a process with its share of the threads.

    Raises:
        RuntimeError: at the end, if some failed; it names them. A student that collapsed is a result, not a failure.
    """
    done = {preset: records.finished(results_dir(preset)) for preset in {config.preset for config in configs}}
    todo = [config for config in configs if config.id not in done[config.preset]]
    failed = {}
    threads = max(1, torch.get_num_threads() // jobs)
    level = logging.WARNING if watched() else logger.getEffectiveLevel()
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_start_worker, initargs=(threads, level)) as pool:
        futures = {pool.submit(run, config): config for config in todo}
        for future in tqdm(as_completed(futures), total=len(todo), unit="run", disable=not watched()):
            if error := future.exception():  # the others go on
                failed[futures[future].id] = f"{type(error).__name__}: {error}"
    if failed:
        raise RuntimeError("\n".join(f"{name} failed: {error}" for name, error in failed.items()))


def _start_worker(threads: int, level: int) -> None:
    torch.set_num_threads(threads)
    os.environ["TQDM_DISABLE"] = "1"  # one bar, that of the runs, is enough
    log_lines(level)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would go on with the runs that are queued; they resume from their checkpoints."""
    parent_process().join()
    os._exit(1)


def run(config: RunConfig) -> bool:
    """Make one run, or the rest of it. False if it is done already, or another process is at it."""
    results = results_dir(config.preset)
    work = results / "work" / config.id
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work.with_name(f"{config.id}.lock"), blocking=False):
            if config.id in records.finished(results):
                shutil.rmtree(work)  # of a process that was killed between the tables and this
                return False
            records.add_run(results, config.id, _tables(config, work))
            shutil.rmtree(work)
    except Timeout:
        return False
    finally:
        gc.collect()  # trainer and callbacks hold each other, and with them the models, until someone asks
    return True


def student_start(config: RunConfig) -> PreTrainedModel:
    """The student before distillation: one for each task and seed, trained when it is first asked for."""
    folder = start_folder(config)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # whoever comes second waits for the first
        if not folder.is_dir():
            _, tokenizer = load_teacher(config.task, config.teacher)
            if config.start.steps:
                rows = task_of(config, tokenizer).load("train", config.start.num_rows, START_ROWS + config.seed)
                with StepBar(folder.name, config.start.steps) as bar:
                    model = train_on_data(config.start, rows, tokenizer, config.seed, folder.with_suffix(".sft"), [bar])
            else:
                model = untrained(config.start.size, tokenizer, config.seed)
            model.save_pretrained(folder.with_suffix(".tmp"))
            folder.with_suffix(".tmp").rename(folder)
            shutil.rmtree(folder.with_suffix(".sft"), ignore_errors=True)
    return AutoModelForCausalLM.from_pretrained(folder)


def start_folder(config: RunConfig) -> Path:
    """Where that student is kept."""
    deciding = asdict(config.start)
    if isinstance(config.start.size, Pretrained):  # its rows are those that fit, its vocabulary is the teacher's
        deciding |= {"fits": [config.max_prompt_tokens, config.max_new_tokens], "teacher": config.teacher}
    return results_dir(config.preset) / "work" / f"start-{config.task}-s{config.seed}-{records.digest(deciding)}"


PROMPT_ROWS, START_ROWS = 10_000, 20_000
"""Added to a run's seed, so that rows to distil on, to start from and of the teacher are drawn apart. Of generated tasks they
differ; of real data they come from one pool, and some are the same."""


def load_run_pair(config: RunConfig) -> Pair:
    """The teacher, and the student before distillation, over the ids that both score; on the GPU if there is one."""
    teacher, tokenizer = load_teacher(config.task, config.teacher, torch.bfloat16 if config.bf16 else torch.float32)
    student = student_start(config)
    cut_to(check_shared_vocabulary(teacher, student, tokenizer, tokenizer), teacher, student)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Pair(teacher.to(device), student.to(device), tokenizer)


def task_of(config: RunConfig, tokenizer: PreTrainedTokenizerBase, name: str | None = None) -> Task:
    """The task of a run, or the one of that name, with the run's lengths."""
    return limited(TASKS[name or config.task], tokenizer, config.max_prompt_tokens, config.max_new_tokens)


def _tables(config: RunConfig, work: Path) -> dict[str, pd.DataFrame]:
    """Train, examine, and tidy up what came out."""
    method = config.resolve_method()
    teacher, student, tokenizer = load_run_pair(config)
    task = task_of(config, tokenizer)
    validation = task.load("validation", config.validation_rows, 0)
    rows = task.load("train", config.num_prompts, PROMPT_ROWS + config.seed)
    settings = _arguments(config, work, task.max_new_tokens)
    examiner = _scorer_of(task, tokenizer, validation)
    collapsed = False
    with StepBar(config.id, config.steps) as bar:
        trainer = RolloutTrainer(student, teacher, method, settings, encode_rows(rows, tokenizer), tokenizer, examiner)
        quiet(trainer, [bar, _Texts(trainer, task, validation, config, work), _GivesBack()])
        try:
            student = train_or_resume(trainer, work)
            with trainer.accelerator.autocast():
                items = _test_items(config, tokenizer, lambda task, rows: evaluate(student, tokenizer, task, rows))
        except NonFiniteLogits as error:
            if error.of is Source.TEACHER:  # is no result of the student's
                raise
            logger.warning("%s: collapsed at step %d: %s", config.id, trainer.state.global_step, error)
            collapsed = True
            items = _test_items(config, tokenizer, lambda task, rows: task.scores([""] * len(rows), rows))
    traces = sorted(work.glob("trace-*.parquet"))
    history = pd.DataFrame(trainer.state.log_history)
    if collapsed:  # it solves nothing from here on
        name = f"eval_{task.metric}"
        examined = set(history.step[history[name].notna()]) if name in history else set()
        missed = [step for step in range(0, config.steps + 1, config.eval_every) if step not in examined]
        history = pd.concat([history, pd.DataFrame({"step": missed, name: 0.0})])
    told = pd.json_normalize(asdict(config))
    told = told.assign(label=method.label, loss=method.loss, collapsed=collapsed, train_seconds=history.step_seconds.sum())
    told = told.assign(threads=torch.get_num_threads(), peak_memory_mb=_peak_memory(), **records.versions())
    if of := PRESETS.get(config.preset):  # the run of the grid that it differs from in its variant
        told = told.assign(paired_with=of.config(config.task, config.method, config.seed).id)
    return {
        "runs": told,
        "metrics": _metrics(history, items, config),
        "switches": history.loc[history.step_seconds.notna(), ["step", "loss", *SWITCH_COLUMNS]],
        "items": pd.concat(items) if items else pd.DataFrame(),
        "traces": pd.concat([pd.read_parquet(file) for file in traces]) if traces else pd.DataFrame(),
    }


def _test_items(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase, scored: Callable[[Task, Dataset], pd.DataFrame]
) -> list[pd.DataFrame]:
    """The test rows of every task that the run's students are tested on, as `scored`."""
    tasks = [task_of(config, tokenizer, name) for name in TASKS if TASKS[name].trained_as == config.task and config.test_rows]
    parts = ((task, task.load("test", config.test_rows, 0)) for task in tasks)
    return [scored(task, rows).assign(task=task.name, example=range(len(rows))) for task, rows in parts]


def _arguments(config: RunConfig, work: Path, max_new_tokens: int) -> RolloutConfig:
    return arguments(
        work,
        config.seed,
        max_steps=config.steps,
        per_device_train_batch_size=config.micro_batch or config.batch_size,
        gradient_accumulation_steps=config.batch_size // (config.micro_batch or config.batch_size),
        bf16=config.bf16,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=config.steps // 20,
        eval_strategy="steps",
        eval_on_start=last_checkpoint(work) is None,
        eval_steps=config.eval_every,
        save_steps=config.eval_every,
        save_total_limit=1,
        max_new_tokens=max_new_tokens,
    )


def _peak_memory() -> float | None:
    """MB that this process has had at most, for this run or for one it made before; None where the system does not tell."""
    if resource is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


SWITCH_COLUMNS = (
    "switch_rate switch_position switch_divergence teacher_share length entropy learning_rate grad_norm write_seconds step_seconds"
).split()


def _metrics(history: pd.DataFrame, items: list[pd.DataFrame], config: RunConfig) -> pd.DataFrame:
    """Long form: step, task, split, metric, value. Validation along the way, test at the end."""
    names = sorted(name for name in history if name.startswith("eval_"))  # a run that was resumed has them in another order
    validation = history.melt(["step"], names, "metric").dropna().assign(task=config.task, split="validation")
    validation["metric"] = validation.metric.str.removeprefix("eval_")
    test = [
        scores.drop(columns=["example"]).mean(numeric_only=True).rename_axis("metric").reset_index(name="value")
        .assign(task=scores.task.iloc[0], split="test", step=config.steps)
        for scores in items
    ]  # fmt: skip
    return pd.concat([validation, *test])[["step", "task", "split", "metric", "value"]]


def _scorer_of(task: Task, tokenizer: PreTrainedTokenizerBase, rows: Dataset) -> Callable[[PreTrainedModel], dict[str, float]]:
    return lambda model: evaluate(model, tokenizer, task, rows).mean(numeric_only=True).to_dict()


class _GivesBack(TrainerCallback):
    """After each step the C library gives freed memory back to the system. Left to itself it keeps it in pieces, since texts
    differ in length: a process of SmolLM2's runs grew to 8.6 GB, of which 2 were in use."""

    def __init__(self):
        self.trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # glibc's

    def on_step_end(self, args, state, control, model, **kwargs: Any) -> None:
        if self.trim is not None and model.num_parameters() > 10_000_000:  # a small model's steps are too short for it
            self.trim(0)


class _Texts(TrainerCallback):
    """At every examination a look at texts for the validation prompts, always with the same seeds; some are kept token by token."""

    def __init__(self, trainer: RolloutTrainer, task: Task, rows: Dataset, config: RunConfig, work: Path):
        self.trainer, self.task, self.rows, self.config, self.work = trainer, task, rows, config, work

    def on_evaluate(self, args, state, control, **kwargs: Any) -> None:
        if self.config.traced_rows == 0:
            return
        trainer, tokenizer = self.trainer, self.trainer.processing_class
        with trainer.accelerator.autocast():
            found, rollout = look_at_texts(
                trainer.method.policy,
                trainer.teacher,
                trainer.model,
                tokenizer,
                self.task,
                self.rows,
                self.config.rule,
                args.sampling_temperature,
            )
        trainer.log({f"eval_{name}": value for name, value in found.items()})
        frame = trace(rollout, tokenizer, state.global_step, self.config.traced_rows)
        frame.to_parquet(self.work / f"trace-{state.global_step:06d}.parquet")
