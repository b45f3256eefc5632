"""Runs a script, for which accelerate takes the CPU of each process for a GPU: otherwise it gives CPUs neither FSDP2 nor ZeRO-3.

python tests/cpus_as_gpus.py script.py …
"""

import runpy
import sys

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType

PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
PartialState.set_device = lambda state: setattr(state, "device", torch.device("cpu"))
torch.cuda.set_device = lambda device: None

sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
