"""The laboratory's commands: `adaswitch run | reproduce | status | collect | tune | teachers | continuations | lane`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from adaswitch_lib import __version__

if TYPE_CHECKING:
    from adaswitch_lib.experiments.config import RunConfig

# What the commands need is imported when one of them runs: torch takes seconds, in which --help and Ctrl-C are obeyed.


def run(arguments: Sequence[str]) -> argparse.Namespace:
    """Run one command; returns what was chosen."""
    chosen = _parser().parse_args(arguments)
    from adaswitch_lib.experiments.logs import log_lines

    log_lines()
    commands = {"run": _run, "reproduce": _run, "status": _status, "collect": _collect, "tune": _tune}
    (commands | {"teachers": _teachers, "continuations": _continuations, "lane": _lane})[chosen.command](chosen)
    return chosen


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for all that goes wrong."""
        raise ValueError(f"{message}; {self.prog} --help lists what there is.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="adaswitch", description="AdaSwitch: train your own pair, or reproduce the experiments.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("train", help="distil a teacher into a student, on your own models and data", add_help=False)
    for name, help_ in (
        ("run", "train students; what is done is skipped"),
        ("reproduce", "run, then draw all figures and tables"),
        ("status", "which runs are done"),
    ):
        command = commands.add_parser(name, help=help_)
        command.add_argument("--preset", default="quick")
        command.add_argument("--task", nargs="+", default=["all"], help="names, or all")
        command.add_argument("--method", nargs="+", default=["all"], help="names, or all")
        command.add_argument("--seed", nargs="+", default=["all"], help="numbers, or all")
        command.add_argument("--study", nargs="+", default=[], help="runs beside the grid instead of it: names, or all")
        if name != "status":
            _add_jobs(command)
    command = commands.add_parser("collect", help="write the folders of runs that are done into the preset's tables")
    command.add_argument("--preset", default="quick")
    command = commands.add_parser("tune", help="try settings on validation data and keep the best of each method")
    command.add_argument("--task", nargs="+", default=["all"], help="names, or all")
    _add_jobs(command)
    command = commands.add_parser("teachers", help="train teachers again, those of the micro tasks into the package")
    command.add_argument("--task", nargs="+", default=["all"], help="names, or all: the micro tasks")
    commands.add_parser("continuations", help="what the teachers of smollm2 and the lane make of texts that others began")
    command = commands.add_parser("lane", help="make the runs of the lane; what is done is skipped")
    command.add_argument("--seed", nargs="+", default=["all"], help="numbers, or all")
    return parser


def _add_jobs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--jobs", type=_jobs, help="runs at a time; 0: in this process (default: as cores and memory allow)")


def _jobs(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"runs at a time are a whole number, got {text}")
    return int(text)


def _seeds(chosen: Sequence[str]) -> list[int]:
    from adaswitch_lib.experiments.config import SEEDS

    for text in chosen:
        if not text.isdecimal() or int(text) not in SEEDS:
            raise ValueError(f"--seed: a seed is a whole number from 0 to {SEEDS[-1]:,}, or all; got {text}.")
    return [int(text) for text in chosen]


def _named(chosen: Sequence[str], everything: Sequence[str]) -> list[str]:
    """The names that were asked for; "all" among them stands for everything."""
    return list(dict.fromkeys(name for text in chosen for name in (everything if text == "all" else [text])))


def _configs(chosen: argparse.Namespace) -> list[RunConfig]:
    from adaswitch_lib.experiments.presets import preset
    from adaswitch_lib.methods import method

    wanted = preset(chosen.preset)
    tasks = [wanted.trained_task(name) for name in _named(chosen.task, wanted.tasks)]
    methods = [name for name in _named(chosen.method, wanted.methods) if method(name)]
    seeds = _seeds(_named(chosen.seed, [str(seed) for seed in wanted.seeds]))
    if not chosen.study:
        return wanted.configs(tasks, methods, seeds)
    runs = [run for name in _named(chosen.study, list(wanted.studies)) for run in wanted.study(name)]
    for names, asked, field in ((tasks, chosen.task, "task"), (methods, chosen.method, "method"), (seeds, chosen.seed, "seed")):
        runs = [run for run in runs if "all" in asked or getattr(run, field) in names]
    if not runs:
        raise ValueError(
            f"{chosen.preset} has no such runs in {', '.join(chosen.study)}; without --task, --method and --seed it has all."
        )
    return runs


def _run(chosen: argparse.Namespace) -> None:
    configs = _configs(chosen)
    from adaswitch_lib.experiments.failures import EXPECTED
    from adaswitch_lib.experiments.reference_scores import score_references

    errors = []
    try:
        _run_all(configs, chosen.jobs)
    except RuntimeError as error:  # some runs failed; the others are held against teacher and initial students all the same
        errors.append(f"{error}")
    try:
        score_references(configs)
    except EXPECTED as error:
        errors.append(f"reference scores: {error}")
    if errors:
        raise RuntimeError("\n".join(errors))
    _status(chosen)


def _run_all(configs: Sequence[RunConfig], jobs: int | None) -> None:
    from adaswitch_lib.experiments.runs import run_all

    run_all(configs, jobs)


def _status(chosen: argparse.Namespace) -> None:
    from adaswitch_lib.experiments.paths import results_dir
    from adaswitch_lib.experiments.records import finished

    configs = _configs(chosen)
    done = finished(results_dir(chosen.preset))
    for config in configs:
        if config.id not in done:
            print(f"to do  {config.id}")
    print(f"{sum(config.id in done for config in configs)} of {len(configs)} runs of {chosen.preset} are done.")


def _collect(chosen: argparse.Namespace) -> None:
    from adaswitch_lib.experiments.paths import results_dir
    from adaswitch_lib.experiments.presets import preset
    from adaswitch_lib.experiments.records import collect

    results = results_dir(preset(chosen.preset).base.preset)
    print(f"{collect(results)} runs were collected into the tables of {results}.")


def _tune(chosen: argparse.Namespace) -> None:
    from adaswitch_lib.experiments.presets import PRESETS
    from adaswitch_lib.experiments.tuning import choose, rates, refined

    tasks = [PRESETS["tuning"].trained_task(name) for name in _named(chosen.task, PRESETS["tuning"].tasks)]
    _run_all(rates(tasks), chosen.jobs)
    _run_all(refined(tasks), chosen.jobs)
    print(choose(tasks).to_string(index=False))


def _teachers(chosen: argparse.Namespace) -> None:
    from adaswitch_lib.experiments.progress import StepBar
    from adaswitch_lib.experiments.recipes import TEACHERS
    from adaswitch_lib.experiments.teachers import train_teacher

    names = _named(chosen.task, [name for name in TEACHERS if name.startswith("micro_")])
    if unknown := [name for name in names if name not in TEACHERS]:
        raise ValueError(f"no teacher for {unknown[0]!r}: use one of {', '.join(TEACHERS)}.")
    for task in names:
        with StepBar(f"teacher of {task}", TEACHERS[task].steps) as bar:
            print(train_teacher(task, [bar]))


def _continuations(chosen: argparse.Namespace) -> None:
    from adaswitch_lib.experiments.continuations import write_continuations
    from adaswitch_lib.experiments.presets import preset

    write_continuations(preset("smollm2").config("dialogsum", "adaswitch", 0))


def _lane(chosen: argparse.Namespace) -> None:
    from adaswitch_lib.experiments.lane.grid import SEEDS
    from adaswitch_lib.experiments.lane.runs import run_all

    run_all(_seeds(_named(chosen.seed, [str(seed) for seed in SEEDS])))
