"""Our log: lines to stderr where nobody watches bars. No torch."""

from __future__ import annotations

import logging
import os
import sys

logger = logging.getLogger("adaswitch_lib")


def watched() -> bool:
    """Whether someone looks at bars: a terminal or a notebook, and TQDM_DISABLE is not set."""
    return not os.environ.get("TQDM_DISABLE") and (sys.stderr.isatty() or "ipykernel" in sys.modules)


def log_lines(level: int = logging.INFO) -> None:
    """Our log to stderr, a line a message, and no bars and chatter of the libraries below."""
    from transformers.utils import logging as transformers_logging

    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=level, stream=sys.stderr)
    for chatty in ("httpx", "datasets", "filelock", "absl"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
