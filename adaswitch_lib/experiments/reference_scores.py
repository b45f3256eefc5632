"""What to hold students against: the teacher and initial students, permuted switch positions, and what AdaSwitch writes for
other tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import torch

from adaswitch_lib.data import encode_prompts
from adaswitch_lib.experiments.config import RunConfig
from adaswitch_lib.experiments.final_evaluation import test_items
from adaswitch_lib.experiments.initial_students import initial_student_folder
from adaswitch_lib.experiments.locks import locked
from adaswitch_lib.experiments.paths import results_dir
from adaswitch_lib.experiments.preparation import load_run_pair, tested_tasks
from adaswitch_lib.experiments.presets import PRESETS
from adaswitch_lib.experiments.records import REFERENCE_SCORES, finished, read_table
from adaswitch_lib.experiments.rollout_analysis import against_chance, trace
from adaswitch_lib.experiments.table_files import read_table_file, write_table
from adaswitch_lib.experiments.tasks import TASKS
from adaswitch_lib.generation import generate
from adaswitch_lib.models import eos_token_ids, num_token_ids
from adaswitch_lib.policies import AdaSwitch


def score_references(configs: Iterable[RunConfig]) -> None:
    """Write the reference scores of runs into the results: one row a test item, with its scores and the answer.

    The column `method` is "teacher" or "initial"; a teacher has seed -1. What is there already is not evaluated again. Runs of
    studies are left out: they may have another pair. For tasks that know mistakes `chance.csv` is written, too, and
    `other_tasks.parquet` where the preset names tasks that it does not train.
    """
    grid = [config for config in configs if config.test_rows and not config.variant]
    for config in {(c.preset, c.task, c.seed): c for c in grid}.values():
        _add(config, "teacher", -1, f"{config.teacher}, {config.test_rows} rows")
        _add(config, "initial", config.seed, f"{initial_student_folder(config).name}, {config.test_rows} rows")
    for name in {config.preset for config in grid} & PRESETS.keys():
        _hold_against_chance(name)
        first = min((config for config in grid if config.preset == name), key=lambda config: config.seed)
        if PRESETS[name].other_tasks and first.seed == PRESETS[name].seeds[0]:
            _write_for_other_tasks(first, PRESETS[name].other_tasks)


def _read(file: Path, *columns: str) -> pd.DataFrame:
    return read_table_file(file) if file.is_file() else pd.DataFrame(columns=list(columns))


def _lock(results: Path) -> Path:
    return results / "work" / "reference_scores"


def _add(config: RunConfig, who: str, seed: int, of: str) -> None:
    results = results_dir(config.preset)
    file = results / REFERENCE_SCORES
    with locked(_lock(results)):
        table = _read(file, "method", "trained_on", "seed", "of")
        same = (table.method == who) & (table.trained_on == config.task) & (table.seed == seed)
        if (table.of[same] == of).any():
            return
        teacher, student, tokenizer = load_run_pair(config)
        items = test_items(config, tested_tasks(config, tokenizer), teacher if who == "teacher" else student, tokenizer)
        items = items.assign(method=who, trained_on=config.task, seed=seed, of=of)
        table = pd.concat([table[~same], items] if len(table) else [items])
        table = table.sort_values(["trained_on", "method", "seed", "task", "example"], kind="stable")
        write_table(table, file, preset=config.preset)


def _hold_against_chance(name: str) -> None:
    """What AdaSwitch's rule catches in the texts that on-policy students of the grid wrote alone, and what permuted switch
    positions catch: `against_chance`, of all such runs that are done."""
    results, preset = results_dir(name), PRESETS[name]
    file = results / "chance.csv"
    tasks = [task for task in preset.tasks if TASKS[task].first_mistake]
    with locked(_lock(results)):
        done, known = finished(results), _read(file, "run", "of")
        runs = [run for run in preset.configs(tasks, ["onpolicy"], preset.seeds) if run.id in done and run.traced_rows]
        rules = {run.id: preset.config(run.task, "adaswitch", run.seed).rule for run in runs}
        known = known[known.of == known.run.map(lambda run: str(rules.get(run)))]
        new = []
        for run in runs:
            if run.id not in set(known.run):
                rows = TASKS[run.task].load("validation", run.traced_rows, 0)
                found = against_chance(read_table(results, "traces", [run.id]), TASKS[run.task], rows, rules[run.id])
                new.append(found.assign(task=run.task, seed=run.seed, of=str(rules[run.id])))
        if new:
            table = pd.concat([known, *new] if len(known) else new)
            write_table(table.sort_values(["run", "step"]), file, preset=name)


def _write_for_other_tasks(config: RunConfig, names: Sequence[str], rows: int = 32) -> None:
    """What AdaSwitch writes for test prompts of these tasks, by the teacher and the initial student of this run, at the
    length that each task is meant for.

    Writes `other_tasks.parquet` into the results: the per-token table of `Rollout.to_frame`, with task and switch_index.
    """
    results = results_dir(config.preset)
    file = results / "other_tasks.parquet"
    of = f"{config.teacher}, {initial_student_folder(config).name}, {config.rule}"
    with locked(_lock(results)):
        if set(_read(file, "of").of) == {of}:
            return
        teacher, student, tokenizer = load_run_pair(config)
        own = {task.name: task for task in tested_tasks(config, tokenizer)}
        frames = []
        for task in (own.get(name, TASKS[name]) for name in names):
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
                    vocab_size=num_token_ids(tokenizer),
                )
            frames.append(trace(rollout, tokenizer, 0, len(ids)).assign(task=task.name, of=of))
        write_table(pd.concat(frames), file, preset=config.preset, run=config.id, rows=rows)
