"""A bar with the time left where someone watches, a log line now and then where nobody does."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback

from adaswitch_lib.experiments.logs import logger, watched


class StepBar(TrainerCallback):
    """Counts the steps of one run; silent when headless, but for a line in the log at every evaluation and at the end."""

    def __init__(self, name: str, steps: int):
        self.name = name
        self.bar = tqdm(desc=name, total=steps, unit="step", leave=False, disable=not watched())

    def __enter__(self) -> StepBar:
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.close()
        logger.info("%s: %s", self.name, "stopped" if error[0] else "done")

    def on_step_end(self, args, state, control, **kwargs: Any) -> None:
        self.bar.update(state.global_step - self.bar.n)

    def on_evaluate(self, args, state, control, metrics: dict[str, float], **kwargs: Any) -> None:
        scores = "  ".join(f"{name.removeprefix('eval_')} {value:.3f}" for name, value in metrics.items())
        self.bar.set_postfix_str(scores)
        logger.info("%s: step %d of %d  %s", self.name, state.global_step, state.max_steps, scores)
