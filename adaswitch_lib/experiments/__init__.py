"""The laboratory: tasks, teachers, presets, runs that resume, and what they leave on disk. Names are imported on first use."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adaswitch_lib.experiments.presets import PRESETS
    from adaswitch_lib.experiments.runs import run, run_all

_MODULE_OF = {"PRESETS": "presets", "run": "runs", "run_all": "runs"}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
