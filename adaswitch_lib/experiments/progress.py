"""A bar with the time left where someone watches, a log line now and then where nobody does."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging

logger = logging.getLogger("adaswitch_lib")


def watched() -> bool:
    """Whether someone looks at bars: a terminal or a notebook, and TQDM_DISABLE is not set."""
    return not os.environ.get("TQDM_DISABLE") and (sys.stderr.isatty() or "ipykernel" in sys.modules)


def log_lines(level: int = logging.INFO) -> None:
    """Our log to stderr, a line a message, and no bars and chatter of the libraries below."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=level, stream=sys.stderr)
    for chatty in ("httpx", "datasets", "filelock"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


class StepBar(TrainerCallback):
    """Counts the steps of one run; silent when headless, but for a line in the log at every examination and at the end."""

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
