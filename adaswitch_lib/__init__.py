"""AdaSwitch: adaptive switching generation for knowledge distillation (arXiv 2510.07842, v1).

Start at `switching`, which holds the rule, and `policies`, which say who writes a sequence. Names are imported on first
use, so that what draws figures does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what an editor sees
    from adaswitch_lib.data import encode_prompts, encode_rows
    from adaswitch_lib.divergence import (
        DIVERGENCES,
        forward_kl,
        jensen_shannon,
        reverse_kl,
        skewed_forward_kl,
        skewed_reverse_kl,
        total_variation,
    )
    from adaswitch_lib.generation import Policy, generate
    from adaswitch_lib.generation.static import static_decoding
    from adaswitch_lib.losses import completion_logits, distillation_loss, nll_loss
    from adaswitch_lib.methods import METHODS, Method
    from adaswitch_lib.models import Pair, check_shared_vocabulary, load_pair
    from adaswitch_lib.policies import (
        AdaSwitch,
        FixedSwitch,
        NoisyTeacher,
        OffPolicy,
        OnPolicy,
        PerTokenSwitch,
        RandomSwitch,
        SpeculativeKD,
        StopAtSwitch,
    )
    from adaswitch_lib.rollout import Rollout, Source
    from adaswitch_lib.switching import SwitchRule, first_switch, moving_average, switch_threshold
    from adaswitch_lib.trainer import RolloutConfig, RolloutTrainer

_NAMES = {
    "data": "encode_prompts encode_rows",
    "divergence": "DIVERGENCES forward_kl jensen_shannon reverse_kl skewed_forward_kl skewed_reverse_kl total_variation",
    "generation": "Policy generate",
    "generation.static": "static_decoding",
    "losses": "completion_logits distillation_loss nll_loss",
    "methods": "METHODS Method",
    "models": "Pair check_shared_vocabulary load_pair",
    "policies": "AdaSwitch FixedSwitch NoisyTeacher OffPolicy OnPolicy PerTokenSwitch RandomSwitch SpeculativeKD StopAtSwitch",
    "rollout": "Rollout Source",
    "switching": "SwitchRule first_switch moving_average switch_threshold",
    "trainer": "RolloutConfig RolloutTrainer",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}
__version__ = "0.2.0"
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
