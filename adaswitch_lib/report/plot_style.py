"""One style for all figures: every method, task and writer has its colour, marker and label. No torch, no matplotlib."""

from __future__ import annotations

from pathlib import Path

STYLE = str(Path(__file__).with_name("adaswitch.mplstyle"))

COLOURS = {"student": "#0072B2", "teacher": "#D55E00"}
"""Of the writers: blue and vermilion of the Okabe-Ito palette, told apart by the colour-blind, too."""

LOOKS = {
    "teacher": ("#000000", "_", "teacher"),
    "start": ("#000000", "x", "student before"),
    "sft": ("#56B4E9", "v", "SFT"),
    "seqkd": ("#009E73", "^", "SeqKD"),
    "kd": ("#E69F00", "s", "KD"),
    "offpolicy": ("#CC79A7", "<", "Off-policy KD"),
    "onpolicy": ("#0072B2", "o", "On-policy KD"),
    "gkd": ("#5D3A9B", "P", "GKD"),
    "imitkd": ("#882255", "X", "ImitKD"),
    "skd": ("#117733", "D", "SKD"),
    "switch": ("#999933", ">", "SWITCH"),
    "adaswitch": ("#D55E00", "*", "AdaSwitch"),
    "random": ("#555555", "h", "Random switch"),
    "stop": ("#888888", "d", "Stop at switch"),
    "fixed": ("#BBBBBB", "p", "Fixed switch"),
    "micro_gsm": ("#332288", "o", "micro GSM"),
    "micro_gsm_plus": ("#88CCEE", "^", "micro GSM-Plus"),
    "micro_dialog": ("#CC6677", "s", "micro dialogues"),
    "gsm8k": ("#6699CC", "p", "GSM8K"),
    "gsm_plus": ("#44AA99", "v", "GSM-Plus"),
    "dialogsum": ("#661100", "D", "DialogSum"),
}
"""Colour, marker and label of every method and task, the same in all figures; the controls are grey."""

COSTS = {
    "adaswitch": LOOKS["adaswitch"],
    "adaswitch, naive loop": ("#000000", "x", "AdaSwitch, naive loop"),
    "on-policy": LOOKS["onpolicy"],
    "off-policy": LOOKS["offpolicy"],
}
"""Of the rollouts that the benchmark times, by their names there."""

METRICS = {
    "forward_kl": "forward KL",
    "reverse_kl": "reverse KL",
    "jensen_shannon": "JSD",
    "total_variation": "TVD",
    "skewed_forward_kl": "skewed KL",
    "skewed_reverse_kl": "skewed reverse KL",
    "nll": "NLL",
}
"""Names of the divergences in figures, in the order in which they are drawn."""

SCORES = {"accuracy": "accuracy", "all_facts": "all facts", "rouge_l": "ROUGE-L"}
"""Names of the tasks' metrics in figures and claims."""
