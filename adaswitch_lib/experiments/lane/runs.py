"""Make the lane's runs, one after the other: what is done is skipped, so that the same command goes on where it was stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import LlamaForCausalLM

from adaswitch_lib.experiments.lane.grid import CHART, SEEDS, TRACED, WRITERS, LaneRun, best_top_k, finished, planned, tuning
from adaswitch_lib.experiments.lane.students import STEPS, distil, evaluate, initial_student, write
from adaswitch_lib.experiments.lane.teachers import check, train_teacher
from adaswitch_lib.experiments.lane.world import paths
from adaswitch_lib.experiments.locks import locked
from adaswitch_lib.experiments.logs import logger
from adaswitch_lib.experiments.paths import results_dir
from adaswitch_lib.experiments.table_files import COMMIT, read_table_file, write_table
from adaswitch_lib.generation import Policy
from adaswitch_lib.switching import SwitchRule
from adaswitch_lib.trainer import row_seed

RULES = {"adaswitch": SwitchRule(), "random": SwitchRule(), "floor": SwitchRule(floor=0.5)}
TRACED_CELL = CHART[2]
SHIPPED = Path(__file__).parents[1] / "teachers"


def run_all(seeds: Sequence[int] = SEEDS) -> None:
    """Make the runs by which SKD's top k is chosen, then those of each seed in turn, so that seeds are complete one by one."""
    torch.set_num_threads(1)  # models this small are slower on several
    results = results_dir("lane")
    for run in tuning():
        make(run, results)
    top_k = best_top_k(finished(results))
    for seed in seeds:
        for run in planned(seed, top_k):
            make(run, results)


def make(run: LaneRun, results: Path) -> None:
    """Make one run and add it to the results; not if it is done, or another process is at it."""
    with locked(results / "work" / run.id, wait=False) as free:
        if not free or run.id in set(finished(results).run):
            return
        teacher = load_teacher(run.cell.gamma, results)
        start = time.process_time()
        student = initial_student(run.seed, run.cell.sft_steps)
        policy = policy_of(run)
        is_traced = run.cell == TRACED_CELL and run.seed == TRACED
        texts = [_texts(run, policy, teacher, student, 0)] if is_traced else []
        row = {"run": run.id} | asdict(run.cell) | {"method": run.method, "seed": run.seed, "top_k": run.top_k}
        row |= distil(student, teacher, policy, run.cell.gusts, run.seed)
        row |= {f"validation_{k}": v for k, v in evaluate(student, "validation", run.seed, run.cell.gusts).items()}
        row |= evaluate(student, "test", run.seed, run.cell.gusts)
        texts += [_texts(run, policy, teacher, student, STEPS)] if is_traced else []
        row |= {"seconds": time.process_time() - start, "threads": torch.get_num_threads(), "commit": COMMIT}
        with locked(results / "work" / "tables"):
            for text in texts:
                _append(text, results / "texts.parquet")
            _append(pd.DataFrame([row]), results / "runs.csv")
        logger.info("%s: %.0f s  kl %.3f  exact %.2f", run.id, row["seconds"], row["kl"], row["exact"])


def policy_of(run: LaneRun) -> Policy:
    """Who writes in this run."""
    settings: dict[str, Any] = {"top_k": run.top_k} if run.method == "skd" else {}
    if run.method in RULES:
        settings = {"rule": RULES[run.method]}
    if run.method == "dart":
        settings = {"noise": run.cell.gusts}
    return WRITERS[run.method].with_settings(**settings).policy


def load_teacher(gamma: float, results: Path) -> LlamaForCausalLM:
    """The teacher of a γ: the one that ships with the package, else one that is trained, checked and kept with the results."""
    folder = SHIPPED / f"lane_{gamma:g}"
    if not folder.is_dir():
        folder = results / "teachers" / f"{gamma:g}"
    with locked(results / "work" / f"teacher-{gamma:g}"):
        if not (folder / "config.json").is_file():
            start = time.process_time()
            model = train_teacher(gamma)
            model.save_pretrained(folder)
            known = check(model, gamma).assign(seconds=time.process_time() - start, commit=COMMIT)
            _append(known, results / "teachers.csv")
            logger.info("teacher of γ = %g: %.0f s", gamma, known.seconds[0])
    return LlamaForCausalLM.from_pretrained(folder).eval().requires_grad_(False)


def _texts(run: LaneRun, policy: Policy, teacher: LlamaForCausalLM, student: LlamaForCausalLM, step: int) -> pd.DataFrame:
    """Two texts of the policy, a row a token; the same prompts and row seeds for all methods."""
    prompts, seeds = paths(2, row_seed("texts", run.seed)), [row_seed("texts", row) for row in range(2)]
    rollout = write(policy, teacher, student, prompts, seeds, run.cell.gusts, record_divergence=True)
    asked = [f"From {path[-1]} along {' '.join(map(str, path[:-1]))}" for path in prompts.tolist()]
    tokens = rollout.to_frame(_Places())
    return tokens.assign(method=run.method, step=step, prompt=tokens.example.map(dict(enumerate(asked))))


class _Places:
    """Says a token as a number."""

    def decode(self, token: int) -> str:
        return f"{token}"


def _append(rows: pd.DataFrame, file: Path) -> None:
    known = [read_table_file(file)] if file.is_file() else []
    write_table(pd.concat([*known, rows], ignore_index=True), file)
