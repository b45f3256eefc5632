"""What to hold students against: the teacher and the students before distillation, switches dealt to other rows, and what
AdaSwitch writes for other tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
import torch
from filelock import FileLock

from adaswitch_lib.data import encode_prompts
from adaswitch_lib.experiments.config import RunConfig
from adaswitch_lib.experiments.evaluation import evaluate
from adaswitch_lib.experiments.paths import results_dir
from adaswitch_lib.experiments.presets import PRESETS
from adaswitch_lib.experiments.records import finished, read_table, write_table
from adaswitch_lib.experiments.rollout_analysis import held_against_chance, trace
from adaswitch_lib.experiments.runs import load_run_pair, start_folder, task_of
from adaswitch_lib.experiments.tasks import TASKS
from adaswitch_lib.generation import generate
from adaswitch_lib.models import eos_token_ids
from adaswitch_lib.policies import AdaSwitch


def score_references(configs: Iterable[RunConfig]) -> None:
    """Write `references.parquet` into the results: one row a test item, its scores and the answer, as in `items.parquet`.

    The column `method` is "teacher" or "start"; a teacher has seed -1. What is there already is not examined again. Variants of
    the grid's runs are left out: they may have another pair. For tasks that know mistakes `chance.csv` is written, too, and
    `other_tasks.parquet` where the preset looks at tasks that it does not train.
    """
    grid = [config for config in configs if config.test_rows and not config.variant]
    for config in {(c.preset, c.task, c.seed): c for c in grid}.values():
        for who, seed, of in (("teacher", -1, config.teacher), ("start", config.seed, start_folder(config).name)):
            _add(config, who, seed, f"{of}, {config.test_rows} rows")
    for preset in {config.preset for config in grid}:
        _hold_against_chance(preset)
    for preset in {config.preset for config in grid if PRESETS[config.preset].looked_at}:
        first = min((config for config in grid if config.preset == preset), key=lambda config: config.seed)
        if first.seed == PRESETS[preset].seeds[0]:
            _write_for_other_tasks(first, PRESETS[preset].looked_at)


def _add(config: RunConfig, who: str, seed: int, of: str) -> None:
    results = results_dir(config.preset)
    file = results / "references.parquet"
    with FileLock(results / "work" / "references.lock"):
        table = pd.read_parquet(file) if file.is_file() else pd.DataFrame(columns=["method", "trained_on", "seed", "of"])
        same = (table.method == who) & (table.trained_on == config.task) & (table.seed == seed)
        if (table.of[same] == of).any():
            return
        teacher, student, tokenizer = load_run_pair(config)
        model = teacher if who == "teacher" else student
        parts = [table[~same]] if len(table) else []
        for task in (task_of(config, tokenizer, name) for name in TASKS):
            if task.trained_as == config.task:
                rows = task.load("test", config.test_rows, 0)
                with torch.autocast(model.device.type, torch.bfloat16, enabled=config.bf16):
                    items = evaluate(model, tokenizer, task, rows)
                items = items.assign(method=who, trained_on=config.task, seed=seed, of=of, task=task.name, example=range(len(rows)))
                parts.append(items)
        table = pd.concat(parts).sort_values(["trained_on", "method", "seed", "task", "example"], kind="stable")
        write_table(table, file, preset=config.preset)


def _hold_against_chance(name: str) -> None:
    """What AdaSwitch's rule catches in the texts that on-policy students of the grid wrote alone, and what the same switches
    catch in other rows: `held_against_chance`, of all such runs that are done."""
    results, of = results_dir(name), PRESETS[name]
    done = finished(results)
    tasks = [task for task in of.tasks if TASKS[task].first_mistake]
    runs = [run for run in of.configs(tasks, ["onpolicy"], of.seeds) if run.id in done and run.traced_rows]
    file = results / "chance.csv"
    rules = {run.id: of.config(run.task, "adaswitch", run.seed).rule for run in runs}
    known = dict(pd.read_csv(file)[["run", "of"]].to_numpy()) if file.is_file() else {}
    if not runs or known == {run: str(rule) for run, rule in rules.items()}:
        return
    frames = []
    for run in runs:
        rows, rule = TASKS[run.task].load("validation", run.traced_rows, 0), rules[run.id]
        found = held_against_chance(read_table(results, "traces", [run.id]), TASKS[run.task], rows, rule)
        frames.append(found.assign(task=run.task, seed=run.seed, of=str(rule)))
    write_table(pd.concat(frames), file, preset=name)


def _write_for_other_tasks(config: RunConfig, names: Sequence[str], rows: int = 32) -> None:
    """What AdaSwitch writes for test prompts of these tasks, by the teacher and the student's start of this run, at the
    length that each task is meant for.

    Writes `other_tasks.parquet` into the results: the per-token table of `Rollout.to_frame`, with task and switch_index.
    """
    file = results_dir(config.preset) / "other_tasks.parquet"
    of = f"{config.teacher}, {start_folder(config).name}, {config.rule}"
    if file.is_file() and set(pd.read_parquet(file, columns=["of"]).of) == {of}:
        return
    teacher, student, tokenizer = load_run_pair(config)
    frames = []
    for task in (task_of(config, tokenizer) if name == config.task else TASKS[name] for name in names):
        ids, mask = encode_prompts(tokenizer, task.load("test", rows, 0)["prompt"])
        with torch.autocast(student.device.type, torch.bfloat16, enabled=config.bf16):
            rollout = generate(
                AdaSwitch(config.rule),
                teacher,
                student,
                ids.to(student.device),
                mask.to(student.device),
                max_new_tokens=task.max_new_tokens,
                row_seeds=range(len(ids)),
                eos_token_id=eos_token_ids(tokenizer, teacher, student),
                pad_token_id=tokenizer.pad_token_id,
            )
        frames.append(trace(rollout, tokenizer, 0, len(ids)).assign(task=task.name, of=of))
    write_table(pd.concat(frames), file, preset=config.preset, run=config.id, rows=rows)
