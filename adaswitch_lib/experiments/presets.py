"""One dial: the presets."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from adaswitch_lib.experiments.config import TRAINED_TASKS, ModelSize, Preset, Pretrained, RunConfig, SFTConfig, Study
from adaswitch_lib.methods import METHODS
from adaswitch_lib.models import SMOLLM2_STUDENT
from adaswitch_lib.switching import SwitchRule

CORE_METHODS = ("sft", "seqkd", "kd", "onpolicy", "skd", "adaswitch")

STUDENT = ModelSize(layers=2, width=128)
TEACHERS = {
    "micro_gsm": SFTConfig(ModelSize(layers=4, width=128), num_rows=200_000, steps=3000),
    "micro_dialog": SFTConfig(ModelSize(layers=4, width=128), num_rows=60_000, steps=900),
    "dialogsum": SFTConfig(
        Pretrained("smollm2", lora_rank=6, bf16=False), num_rows=2560, steps=320, batch_size=8, learning_rate=3e-3
    ),
}
"""How teachers are trained; see `teachers`."""

LIMITS = {"dialogsum": (400, 56)}
"""Tokens of prompts and completions that a teacher learns from."""

_MICRO = RunConfig(
    preset="micro",
    task="",
    method="",
    seed=0,
    teacher="",
    start=SFTConfig(STUDENT, num_rows=1000, steps=400),
    num_prompts=2048,
    steps=500,
    batch_size=64,
    learning_rate=2e-3,
    eval_every=50,
    validation_rows=200,
    test_rows=500,
    traced_rows=16,
    rule=SwitchRule(multiplier=3.0, window=8, min_history=4, floor=1.0),
    top_k=5,
    initial=0.3,
    decay=0.02,
    fraction=0.3,
)

_POOR = replace(_MICRO.start, steps=30)
"""After 30 steps a student gets hardly a fact of the dialogues right, and its text is no guide to itself."""

# in bfloat16: on a CPU with units for it a pass takes a third of the time; without them it takes several times as long
_SMOLLM2 = replace(
    _MICRO,
    preset="smollm2",
    start=SFTConfig(Pretrained("smollm2", layers=SMOLLM2_STUDENT), num_rows=320, steps=40, batch_size=8, learning_rate=3e-4),
    num_prompts=800,
    steps=100,
    batch_size=8,
    learning_rate=3e-4,
    eval_every=25,
    validation_rows=32,
    traced_rows=8,
    rule=SwitchRule(multiplier=3.0, window=8, min_history=4),
    top_k=25,
    max_prompt_tokens=230,  # what two cores can learn in reasonable time: about half of the dialogues
    max_new_tokens=56,
)

_QWEN, _LLAMA = (
    {"teacher": f"{family}-3B-Instruct", "start": SFTConfig(Pretrained(f"{family}-{small}-Instruct"), num_rows=0, steps=0)}
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

_BY_TASK = {"micro_dialog": {"start": SFTConfig(STUDENT, num_rows=1000, steps=140), "num_prompts": 256}}
"""Where tasks differ from each other. Dialogues are easier: their student starts after fewer steps of SFT, and with 2,048
prompts all methods ended at 0.94 or above in a trial. With 256, the best rates of KD, on-policy KD and AdaSwitch came to 0.59,
0.80 and 0.88 of validation rows (results/micro/choices.md)."""

CHOICES_FILE = Path(__file__).with_name("choices.json")
"""Written by `choosing`: settings of a task and method that did best on validation data."""


def _chosen(**by_task: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What was chosen on validation data, and what the preset says of single tasks."""
    tasks = {task: _BY_TASK.get(task, {}) | by_task.get(task, {}) for task in TRAINED_TASKS}
    return tasks | (json.loads(CHOICES_FILE.read_text()) if CHOICES_FILE.is_file() else {})


_DIALOGUES = _chosen(micro_dialog={"steps": 200, "eval_every": 20})


def _metrics(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Figure 3: another divergence to learn by and, where a method has one, to switch by, with the floor in its own unit."""
    return {name: {"loss": name, **_switch_by(name)} for name in names}


def _apart(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The same divergences, only to learn by or only to switch by."""
    return {f"{name}-loss": {"loss": name} for name in names} | {f"{name}-switch": _switch_by(name) for name in names}


def _switch_by(name: str) -> dict[str, Any]:
    return {"divergence": name, "floor": lambda run: _ONE_NAT[name] * run.rule.floor}


_ONE_NAT = {"reverse_kl": 4.0, "jensen_shannon": 0.25, "total_variation": 0.6}
"""As rare as one nat of forward KL: at their start students exceed it at 18 to 20 % of their tokens (validation, seed 100)."""


_FIGURE_3 = Study(_metrics(_ONE_NAT), methods=("onpolicy", "skd", "adaswitch"), tasks=("micro_dialog",), seeds=(0, 1, 2))


def _rules(pairs: Iterable[tuple[float, int]]) -> dict[str, dict[str, float]]:
    """K and L of AdaSwitch's rule, by the bare ratio: a floor would hide what they do."""
    return {f"K{k:g}-L{window}": {"multiplier": k, "window": window, "floor": 0.0} for k, window in pairs}


PRESETS: dict[str, Preset] = {
    "smoke": Preset(
        replace(
            _MICRO,
            preset="smoke",
            start=SFTConfig(STUDENT, num_rows=200, steps=4, batch_size=16),
            num_prompts=64,
            steps=3,
            batch_size=16,
            eval_every=3,
            validation_rows=16,
            test_rows=32,
            traced_rows=2,
        ),
        description="a few steps of everything, for tests",
        studies={
            "metrics": Study(_metrics(("reverse_kl",)), methods=("adaswitch",)),
            "sensitivity": Study(_rules(((1.5, 4), (6, 8)))),
            "floors": Study({"0.0": {"floor": 0.0}, "1.0": {"floor": 1.0}}),
            "prompts": Study({"32": {"num_prompts": 32}}, methods=("kd", "adaswitch")),
        },
    ),
    "quick": Preset(
        replace(
            _MICRO,
            preset="quick",
            start=SFTConfig(STUDENT, num_rows=1000, steps=250),
            steps=50,
            batch_size=32,
            eval_every=25,
            validation_rows=100,
            test_rows=100,
        ),
        description="the core methods, one seed; on dialogues also the controls, another divergence and three more rules",
        methods=CORE_METHODS,
        studies={
            "controls": Study({"": {}}, methods=("random", "stop", "fixed"), tasks=("micro_dialog",)),
            "metrics": Study(_metrics(("reverse_kl",)), methods=("onpolicy", "adaswitch"), tasks=("micro_dialog",)),
            "sensitivity": Study(_rules(((1.5, 8), (3, 16))), tasks=("micro_dialog",)),
            "floors": Study({"0.0": {"floor": 0.0}}, tasks=("micro_dialog",)),
        },
        choices=_chosen(),
    ),
    "micro": Preset(
        _MICRO,
        description="the reference: every method, five seeds",
        seeds=(0, 1, 2, 3, 4),
        # on dialogues alone: a run of the word problems takes three times as long, and by the ratio every row switches there
        studies={
            "metrics": _FIGURE_3,
            "apart": Study(_apart(_ONE_NAT), tasks=("micro_dialog",), seeds=(0, 1, 2)),
            "sensitivity": Study(
                _rules((k, window) for k, window in itertools.product((1.5, 3, 6), (4, 8, 32)) if (k, window) != (3, 8))
                | {f"history-{n}": {"min_history": n, "floor": 0.0} for n in (1, 8)},
                tasks=("micro_dialog",),
                seeds=(0, 1, 2),
            ),
            "floors": Study(
                {f"{nats}": {"floor": nats} for nats in (0.0, 0.5, 1.0, 2.0)},
                tasks=("micro_dialog",),
                seeds=(0, 1, 2, 3, 4),
            ),
            # with the floor one row in eight switches on dialogues: too few to tell where from whether
            "bare": Study({"0.0": {"floor": 0.0}}, methods=("random", "stop"), tasks=("micro_dialog",), seeds=(0, 1, 2, 3, 4)),
            # decided when AdaSwitch had led by the bare ratio with five seeds, though not surely: five more students, judged alone
            "fresh": Study(
                {"0.0": {"floor": 0.0}},
                methods=("adaswitch", "onpolicy", "skd", "offpolicy", "random", "seqkd", "kd"),
                tasks=("micro_dialog",),
                seeds=(5, 6, 7, 8, 9),
            ),
            "prompts": Study(
                {str(n): {"num_prompts": n} for n in (64, 512, 4096)},
                methods=("kd", "onpolicy", "skd", "adaswitch"),
                tasks=("micro_dialog",),
                seeds=(0, 1, 2),
            ),
            "starts": Study(
                {"30": {"start": _POOR}},
                methods=("kd", "offpolicy", "onpolicy", "skd", "adaswitch", "random"),
                tasks=("micro_dialog",),
                seeds=(0, 1, 2, 3, 4),
            ),
            # a ratio trips least where all tokens are far off: so a lower one, and none, which leaves the floor as a limit
            "limits": Study(
                {"K1.5": {"start": _POOR, "multiplier": 1.5}, "nats": {"start": _POOR, "multiplier": 1e-6}},
                tasks=("micro_dialog",),
                seeds=(0, 1, 2, 3, 4),
            ),
        },
        choices=_DIALOGUES,
    ),
    # the experiment that the account of `micro` named as the one that would decide; results/README.md has the plan, made before
    "confirm": Preset(
        replace(_MICRO, preset="confirm"),
        description="twenty fresh students on dialogues, by the bare ratio: four methods, one analysis",
        methods=("onpolicy", "skd", "adaswitch", "random"),
        seeds=tuple(range(10, 30)),
        tasks=("micro_dialog",),
        choices=_DIALOGUES
        | {name: _DIALOGUES.get(name, {}) | {"floor": 0.0} for name in ("micro_dialog/adaswitch", "micro_dialog/random")},
    ),
    # figure 3 learns by every divergence at the rate that was chosen for forward KL; results/README.md has the plan, made before
    "half_rate": Preset(
        replace(_MICRO, preset="half_rate"),
        description="figure 3's runs on dialogues once more, at half of their learning rate",
        methods=_FIGURE_3.methods,
        seeds=_FIGURE_3.seeds,
        tasks=_FIGURE_3.tasks,
        choices=_DIALOGUES
        | {f"micro_dialog/{m}": _DIALOGUES.get(f"micro_dialog/{m}", {}) | {"learning_rate": 2e-3} for m in _FIGURE_3.methods},
        studies={"metrics": _FIGURE_3},
    ),
    "smollm2": Preset(
        _SMOLLM2,
        description="SmolLM2-135M on DialogSum: a real LLM on real dialogues, as far as two cores carry",
        tasks=("dialogsum",),
        methods=("sft", "kd", "onpolicy", "skd", "adaswitch", "random"),
        looked_at=("dialogsum", "gsm8k", "gsm_plus"),
        studies={
            "seeds": Study({"": {}}, methods=("onpolicy", "adaswitch"), tasks=("dialogsum",), seeds=(1, 2)),
            # the rate was not chosen, but taken over from the start
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
    "choosing": Preset(
        replace(_MICRO, preset="choosing", steps=125, eval_every=25, test_rows=0, traced_rows=0),
        description="candidates for the settings of micro, examined on validation data alone, with a seed of their own",
        seeds=(100,),
        choices=_BY_TASK,
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
