"""Commands: `python -m adaswitch_lib run | status | choose | teachers`."""

from __future__ import annotations

import argparse
import sys

from adaswitch_lib.experiments.config import TRAINED_TASKS, RunConfig
from adaswitch_lib.experiments.paths import results_dir
from adaswitch_lib.experiments.presets import PRESETS, TEACHERS, preset
from adaswitch_lib.experiments.progress import StepBar, log_lines
from adaswitch_lib.experiments.records import finished
from adaswitch_lib.experiments.reference_scores import score_references
from adaswitch_lib.experiments.runs import JOBS, run_all
from adaswitch_lib.experiments.teachers import train_teacher
from adaswitch_lib.experiments.tuning import choose, rates, refined


def main(arguments: list[str] | None = None) -> int:
    """Run one command; what went wrong is one line, without a traceback."""
    parser = argparse.ArgumentParser(prog="python -m adaswitch_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_ in (("run", "train students; what is done is skipped"), ("status", "which runs are done")):
        command = commands.add_parser(name, help=help_)
        command.add_argument("--preset", default="quick", choices=tuple(PRESETS))
        command.add_argument("--task", nargs="+", default=["all"], help="names, or all")
        command.add_argument("--method", nargs="+", default=["all"], help="names, or all")
        command.add_argument("--seed", nargs="+", default=["all"], help="numbers, or all")
        command.add_argument("--study", nargs="+", default=[], help="runs beside the grid instead of it: names, or all")
        if name == "run":
            command.add_argument("--jobs", type=int, default=JOBS, help="runs at a time (default: one a core, or one on a GPU)")
    command = commands.add_parser("choose", help="try settings on validation data and keep the best of each method")
    command.add_argument("--task", nargs="+", default=["all"], help="names, or all")
    command.add_argument("--jobs", type=int, default=JOBS, help="runs at a time (default: one a core, or one on a GPU)")
    command = commands.add_parser("teachers", help="train teachers again, those of the micro tasks into the package")
    command.add_argument("--task", nargs="+", default=["all"], help=f"some of {', '.join(TEACHERS)}; all: the micro tasks")
    chosen = parser.parse_args(arguments)
    log_lines()
    try:
        {"run": _run, "status": _status, "choose": _choose, "teachers": _teachers}[chosen.command](chosen)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _configs(chosen: argparse.Namespace) -> list[RunConfig]:
    of = preset(chosen.preset)
    try:
        seeds = None if "all" in chosen.seed else [int(seed) for seed in chosen.seed]
    except ValueError:
        raise ValueError(f"seeds are whole numbers or all, got {' '.join(chosen.seed)}.") from None
    tasks, methods = (None if "all" in names else names for names in (chosen.task, chosen.method))
    grid = of.configs(tasks or of.tasks, methods or of.methods, seeds or of.seeds)  # which also refuses unknown names
    if not chosen.study:
        return grid
    runs = [run for name in (of.studies if "all" in chosen.study else chosen.study) for run in of.study(name)]
    for wanted, name in ((tasks and {run.task for run in grid}, "task"), (methods, "method"), (seeds, "seed")):
        runs = [run for run in runs if wanted is None or getattr(run, name) in wanted]
    if not runs:
        raise ValueError(
            f"{chosen.preset} has no such runs in {', '.join(chosen.study)}; without --task, --method and --seed it has all."
        )
    return runs


def _run(chosen: argparse.Namespace) -> None:
    configs = _configs(chosen)
    try:
        run_all(configs, chosen.jobs)
    except RuntimeError:  # some runs failed; the others are held against teacher and start all the same
        score_references(configs)
        raise
    score_references(configs)
    _status(chosen)


def _status(chosen: argparse.Namespace) -> None:
    done = finished(results_dir(chosen.preset))
    configs = _configs(chosen)
    for config in configs:
        if config.id not in done:
            print(f"to do  {config.id}")
    print(f"{sum(config.id in done for config in configs)} of {len(configs)} runs of {chosen.preset} are done.")


def _choose(chosen: argparse.Namespace) -> None:
    tasks = PRESETS["choosing"].tasks if "all" in chosen.task else chosen.task
    run_all(rates(tasks), chosen.jobs)
    run_all(refined(tasks), chosen.jobs)
    print(choose(tasks).to_string(index=False))


def _teachers(chosen: argparse.Namespace) -> None:
    for task in TRAINED_TASKS if "all" in chosen.task else chosen.task:
        with StepBar(f"teacher of {task}", TEACHERS[task].steps if task in TEACHERS else 0) as bar:
            print(train_teacher(task, [bar]))


if __name__ == "__main__":
    sys.exit(main())
