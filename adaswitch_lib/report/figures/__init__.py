"""One function a figure: data in, axes out; `save` writes it under the function's name."""

from adaswitch_lib.report.figures.lane import advice, who_wins
from adaswitch_lib.report.figures.rollouts import figure_1, figure_2, real_divergence, real_rollout
from adaswitch_lib.report.figures.scores import (
    controls,
    differences,
    figure_3,
    figure_5,
    initial_students,
    lead,
    prompts,
    students,
)
from adaswitch_lib.report.figures.style import figure, save, show
from adaswitch_lib.report.figures.switches import figure_4a, figure_4b, floors, real_curves, rules
from adaswitch_lib.report.figures.training import along_the_sequence, cost_growth, exposure, step_seconds

__all__ = [
    "advice",
    "along_the_sequence",
    "controls",
    "cost_growth",
    "differences",
    "exposure",
    "figure",
    "figure_1",
    "figure_2",
    "figure_3",
    "figure_4a",
    "figure_4b",
    "figure_5",
    "floors",
    "initial_students",
    "lead",
    "prompts",
    "real_curves",
    "real_divergence",
    "real_rollout",
    "rules",
    "save",
    "show",
    "step_seconds",
    "students",
    "who_wins",
]
