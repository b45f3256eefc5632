"""The command `adaswitch`, which `python -m adaswitch_lib` is, too."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

EXTRAS = {"train": "trl", "reproduce": "experiments,report"}
"""Command -> what it needs; the others need the extra `experiments`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what went wrong is one line, without a traceback.

    Returns:
        The exit status: 2 for what went wrong, 130 after Ctrl-C and 143 after SIGTERM; the same command then goes on.
    """
    arguments = sys.argv[1:] if arguments is None else [*arguments]
    training = arguments[:1] == ["train"]
    signal.signal(signal.SIGTERM, _terminate)
    try:
        _run(arguments)
    except KeyboardInterrupt as stop:
        _ignore_stops()  # once is enough
        again = "--resume_from_checkpoint goes on from a checkpoint" if training else "the same command goes on from here"
        print(f"stopped: {again}.", file=sys.stderr)
        return 143 if isinstance(stop, _Terminated) else 130
    except ModuleNotFoundError as error:
        extra, missing = EXTRAS.get(arguments[0], "experiments"), (error.name or str(error)).partition(".")[0]
        print(f"error: adaswitch {arguments[0]} needs {missing}: pip install '.[{extra}]'", file=sys.stderr)
        return 2
    except Exception as error:
        from adaswitch_lib.experiments.failures import EXPECTED, full_disk

        full = full_disk(error)
        if not full and (not isinstance(error, EXPECTED) or training and isinstance(error, RuntimeError)):
            raise  # people's own models fail in ways that want a traceback
        print(f"error: {full or error}", file=sys.stderr)
        return 2
    return 0


def _run(arguments: list[str]) -> None:
    if arguments[:1] == ["train"]:
        from adaswitch_lib.trl_command import train

        train(arguments[1:])
    elif arguments[:1] == ["reproduce"]:
        from adaswitch_lib.experiments.commands import run
        from adaswitch_lib.report.everything import draw  # imported first: what is missing is said before hours of training

        draw(run(arguments).preset)
    else:
        from adaswitch_lib.experiments.commands import run

        run(arguments)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which stops a command as Ctrl-C does."""


def _terminate(*signal_and_frame: Any) -> NoReturn:
    raise _Terminated


def _ignore_stops() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def command() -> NoReturn:
    """`main` as a program."""
    status = main()
    _ignore_stops()
    if status > 128:  # stopped: nobody waits for the seconds that Python needs to take torch apart
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    command()
