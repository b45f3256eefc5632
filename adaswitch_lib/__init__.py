"""AdaSwitch: adaptive switching generation for knowledge distillation (arXiv 2510.07842, v1).

Start at `switching`, which holds the rule, and `generation`, which writes sequences by it. Names are
imported on first use, so that drawing figures does not load torch.
"""

from importlib import import_module

_HOME = {
    "divergence": ("DIVERGENCES forward_kl reverse_kl jensen_shannon skewed_forward_kl skewed_reverse_kl total_variation".split()),
    "generation": (
        "generate Policy OnPolicy OffPolicy AdaSwitch StopAtSwitch RandomSwitch FixedSwitch SpeculativeKD PerTokenSwitch".split()
    ),
    "presets": "PRESETS".split(),
    "experiments": "run run_all".split(),
    "losses": "completion_logits distillation_loss nll_loss".split(),
    "methods": "METHODS Method".split(),
    "models": "Pair load_pair check_shared_vocabulary cut_to".split(),
    "rollout": "Rollout Source".split(),
    "training": "DistillationConfig DistillationTrainer encode_rows".split(),
    "switching": "SwitchRule moving_average switch_threshold first_switch".split(),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
