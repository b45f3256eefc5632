"""One dial: the presets."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from adaswitch_lib.experiments.config import ModelSize, Pretrained, RunConfig, SFTConfig
from adaswitch_lib.experiments.grid import Preset, Study
from adaswitch_lib.methods import METHODS
from adaswitch_lib.models import SMOLLM2_STUDENT
from adaswitch_lib.switching import SwitchRule

CORE_METHODS = ("sft", "seqkd", "kd", "onpolicy", "skd", "adaswitch")
MICRO_TASKS = ("micro_gsm", "micro_dialog")
FIVE_SEEDS = (0, 1, 2, 3, 4)

STUDENT = ModelSize(layers=2, width=128)

_MICRO = RunConfig(
    preset="micro",
    task="",
    method="sft",
    seed=0,
    teacher="",
    initial_student=SFTConfig(STUDENT, num_rows=1000, steps=400),
    num_prompts=2048,
    steps=500,
    batch_size=64,
    learning_rate=2e-3,
    eval_every=50,
    validation_rows=200,
    test_rows=500,
    traced_rows=16,
    rule=SwitchRule(multiplier=3.0, window=8, min_history=4, floor=1.0),
)

_OWN = {"skd": {"top_k": 5}, "fixed": {"fraction": 0.3}}
"""Settings of methods on the micro tasks, before any were chosen."""

_POOR = replace(_MICRO.initial_student, steps=30)
"""After 30 steps a student gets hardly a fact of the dialogues right, and its text is no guide to itself."""

# in bfloat16: on a CPU with units for it a pass takes a third of the time; without them it takes several times as long
_SMOLLM2 = replace(
    _MICRO,
    preset="smollm2",
    initial_student=SFTConfig(
        Pretrained("smollm2", layers=SMOLLM2_STUDENT), num_rows=320, steps=40, batch_size=8, micro_batch=4, learning_rate=3e-4
    ),
    num_prompts=800,
    steps=100,
    batch_size=8,
    learning_rate=3e-4,
    eval_every=25,
    validation_rows=32,
    traced_rows=8,
    rule=SwitchRule(multiplier=3.0, window=8, min_history=4),
    max_prompt_tokens=230,  # what two cores can learn in reasonable time: about half of the dialogues
    max_new_tokens=56,
)

_QWEN, _LLAMA = (
    {
        "teacher": f"{family}-3B-Instruct",
        "initial_student": SFTConfig(Pretrained(f"{family}-{small}-Instruct"), num_rows=0, steps=0),
    }
    for family, small in (("Qwen/Qwen2.5", "0.5B"), ("meta-llama/Llama-3.2", "1B"))
)
"""The paper's pairs. Whether its models were trained on the tasks before distillation we could not learn: here they are not."""

_PAPER = replace(
    _SMOLLM2,
    preset="paper",
    num_prompts=6800,
    steps=1000,
    batch_size=64,
    micro_batch=8,
    learning_rate=1e-5,
    eval_every=100,
    validation_rows=200,
    test_rows=2400,
    **_QWEN,
)

_BY_TASK = {"micro_dialog": {"initial_student": SFTConfig(STUDENT, num_rows=1000, steps=140), "num_prompts": 256}}
"""Where tasks differ from each other. Dialogues are easier: their initial student has fewer steps of SFT, and with 2,048
prompts all methods ended at 0.94 or above in a trial. With 256, the best rates of KD, on-policy KD and AdaSwitch came to 0.59,
0.80 and 0.88 of validation rows (results/micro/choices.md)."""

CHOICES_FILE = Path(__file__).with_name("choices.json")
"""Written by `tuning`: settings of a task and method that did best on validation data."""


def _chosen(**by_task: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What was chosen on validation data, and what the preset says of single tasks and methods.

    Raises:
        ValueError: if the file is damaged; the message names it.
    """
    tasks = {task: _BY_TASK.get(task, {}) | by_task.get(task, {}) for task in MICRO_TASKS}
    return _OWN | tasks | read_choices(CHOICES_FILE)


def read_choices(file: Path) -> dict[str, dict[str, Any]]:
    """What `CHOICES_FILE` holds: "task/method" -> settings; nothing where there is none.

    Raises:
        ValueError: if it is damaged; the message names it.
    """
    try:
        found = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): restore it from git.") from None
    if not (isinstance(found, dict) and all("/" in name and isinstance(found[name], dict) for name in found)):
        raise ValueError(f"{file} is damaged (it holds no settings of tasks and methods): restore it from git.")
    return found


_DIALOGUES = _chosen(micro_dialog={"steps": 200, "eval_every": 20})

_ONE_NAT = {"reverse_kl": 4.0, "jensen_shannon": 0.25, "total_variation": 0.6}
"""As rare as one nat of forward KL: initial students exceed it at 18 to 20 % of their tokens (validation, seed 100)."""


def _divergences(names: Iterable[str]) -> dict[str, Callable[[RunConfig], dict[str, Any]]]:
    """Figure 3: another divergence to learn by and, where a method has one, to switch by, with the floor in its own unit."""

    def variant(name: str) -> Callable[[RunConfig], dict[str, Any]]:
        def changes(run: RunConfig) -> dict[str, Any]:
            switches = hasattr(run.resolve_method().policy, "rule")
            return {"loss": name} | ({"divergence": name, "floor": _ONE_NAT[name] * run.rule.floor} if switches else {})

        return changes

    return {name: variant(name) for name in names}


def _rules(pairs: Iterable[tuple[float, int]]) -> dict[str, dict[str, float]]:
    """K and L of AdaSwitch's rule with a floor of 0: a higher one would hide what they do."""
    return {f"K{k:g}-L{window}": {"multiplier": k, "window": window, "floor": 0.0} for k, window in pairs}


PRESETS: dict[str, Preset] = {
    "smoke": Preset(
        replace(
            _MICRO,
            preset="smoke",
            initial_student=SFTConfig(STUDENT, num_rows=200, steps=4, batch_size=16),
            num_prompts=64,
            steps=3,
            batch_size=16,
            eval_every=3,
            validation_rows=16,
            test_rows=32,
            traced_rows=2,
        ),
        description="a few steps of everything, for tests",
        tasks=MICRO_TASKS,
        choices=_OWN,
        studies={
            "divergences": Study(_divergences(("reverse_kl",))),
            "rules": Study(_rules(((1.5, 4), (6, 8)))),
            "floors": Study({"0.0": {"floor": 0.0}, "1.0": {"floor": 1.0}}),
            "prompts": Study({"32": {"num_prompts": 32}}, methods=("kd", "adaswitch")),
        },
    ),
    "quick": Preset(
        replace(
            _MICRO,
            preset="quick",
            initial_student=SFTConfig(STUDENT, num_rows=1000, steps=250),
            steps=30,
            batch_size=32,
            eval_every=15,
            validation_rows=100,
            test_rows=100,
        ),
        description="the core methods, one seed; on dialogues also the controls, another divergence and three more rules",
        tasks=MICRO_TASKS,
        methods=CORE_METHODS,
        choices=_chosen(),
        studies={
            "more_methods": Study({"": {}}, methods=("random", "stop", "fixed"), tasks=("micro_dialog",)),
            "divergences": Study(_divergences(("reverse_kl",)), methods=("onpolicy", "adaswitch"), tasks=("micro_dialog",)),
            "rules": Study(_rules(((1.5, 8), (3, 16))), tasks=("micro_dialog",)),
            "floors": Study({"0.0": {"floor": 0.0}}, tasks=("micro_dialog",)),
        },
    ),
    "micro": Preset(
        _MICRO,
        description="the reference: every method, five seeds",
        tasks=MICRO_TASKS,
        seeds=FIVE_SEEDS,
        choices=_DIALOGUES,
        # on dialogues alone: a run of the word problems takes three times as long, and with a floor of 0 every row switches there
        studies={
            "divergences": Study(
                _divergences(_ONE_NAT), methods=("onpolicy", "skd", "adaswitch"), tasks=("micro_dialog",), seeds=(0, 1, 2)
            ),
            "rules": Study(
                _rules((k, window) for k, window in itertools.product((1.5, 3, 6), (4, 8, 32)) if (k, window) != (3, 8))
                | {f"history-{n}": {"min_history": n, "floor": 0.0} for n in (1, 8)},
                tasks=("micro_dialog",),
                seeds=(0, 1, 2),
            ),
            "floors": Study(
                {f"{nats}": {"floor": nats} for nats in (0.0, 0.5, 1.0, 2.0)}, tasks=("micro_dialog",), seeds=FIVE_SEEDS
            ),
            # with a floor of 1 nat one row in eight switches on dialogues: too few to tell where from whether
            "controls": Study({"0.0": {"floor": 0.0}}, methods=("random", "stop"), tasks=("micro_dialog",), seeds=FIVE_SEEDS),
            "prompts": Study(
                {str(n): {"num_prompts": n} for n in (64, 512, 4096)},
                methods=("kd", "onpolicy", "skd", "adaswitch"),
                tasks=("micro_dialog",),
                seeds=(0, 1, 2),
            ),
            "initial_students": Study(
                {"30": {"initial_student": _POOR}},
                methods=("kd", "offpolicy", "onpolicy", "skd", "adaswitch", "random"),
                tasks=("micro_dialog",),
                seeds=FIVE_SEEDS,
            ),
        },
    ),
    "smollm2": Preset(
        _SMOLLM2,
        description="SmolLM2-135M on DialogSum: a real LLM on real dialogues, as far as two cores carry",
        tasks=("dialogsum",),
        methods=("kd", "onpolicy", "skd", "adaswitch", "random"),
        seeds=tuple(range(8)),
        other_tasks=("dialogsum", "gsm8k", "gsm_plus"),
        studies={
            "more_methods": Study({"": {}}, methods=("sft",), tasks=("dialogsum",)),
            # the rate was not chosen, but taken over from the training before
            "rates": Study({"1e-4": {"learning_rate": 1e-4}}, methods=("onpolicy", "adaswitch"), tasks=("dialogsum",)),
        },
    ),
    "paper": Preset(
        _PAPER,
        description="the paper's pairs from the hub, Qwen2.5 and, as a study, Llama-3.2: for a GPU, and not run by us",
        tasks=("gsm8k", "dialogsum"),
        teachers=dict.fromkeys(("gsm8k", "dialogsum"), _QWEN["teacher"]),
        choices={
            "gsm8k": {"max_prompt_tokens": 256, "max_new_tokens": 256},
            "dialogsum": {"max_prompt_tokens": 512, "max_new_tokens": 128},
        },
        studies={"llama": Study({"3B-1B": _LLAMA}, methods=tuple(METHODS), tasks=("gsm8k", "dialogsum"))},
    ),
    "tuning": Preset(
        replace(_MICRO, preset="tuning", steps=125, eval_every=25, test_rows=0, traced_rows=0),
        description="candidates for the settings of micro, evaluated on validation data alone, with a seed of their own",
        tasks=MICRO_TASKS,
        seeds=(100,),
        choices=_OWN | _BY_TASK,
    ),
}


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: use one of {', '.join(PRESETS)}.")
    return PRESETS[name]
