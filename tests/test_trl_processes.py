"""Two processes on the CPU take the step that one takes: the same texts, the same student."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from accelerate import DistributedType
from accelerate.commands.config.config_args import load_config_from_file
from transformers import AutoModelForCausalLM
from trl_pair import PROMPTS, RULE, SETTINGS, save_pair, trainer

ROOT = Path(__file__).parents[1]
MORE = {"log_completions": True, "num_completions_to_print": 0, "optim": "sgd", "learning_rate": 0.1}
"""SGD, since the first step of Adam makes much of a gradient that is zero but for rounding."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process, which takes two micro-batches a step; the folder with its pair, prompts and output."""
    folder = tmp_path_factory.mktemp("alone")
    save_pair(folder)
    PROMPTS.to_json(folder / "prompts.jsonl")
    made = trainer(folder, folder / "out", **MORE)
    made.train()
    made.save_model()
    return folder


@pytest.mark.parametrize("kind", ["fsdp2", "zero3"])
def test_files_for_many_gpus_are_as_accelerate_wants_them(kind):
    config = load_config_from_file(str(ROOT / "examples" / f"accelerate_{kind}.yaml"))
    assert config.distributed_type == {"fsdp2": DistributedType.FSDP, "zero3": DistributedType.DEEPSPEED}[kind]
    assert config.fsdp_config.get("fsdp_version") == 2 or config.deepspeed_config["zero_stage"] == 3


@pytest.mark.parametrize("kind", ["ddp", "fsdp2", "zero3"])
def test_two_processes_take_the_step_of_one(kind, alone, tmp_path):
    if kind == "zero3":
        pytest.importorskip("deepspeed", reason="DeepSpeed has no wheel: pip install deepspeed compiles it")
    if kind == "fsdp2" and torch.__version__ < "2.7":
        pytest.skip("FSDP2 of torch 2.6 works on GPUs alone")
    options = SETTINGS | RULE | MORE | {"output_dir": tmp_path, "prompts": alone / "prompts.jsonl"}
    options |= {name: alone / name for name in ("teacher", "student")}
    options["model"] = options.pop("student")
    if kind == "ddp":
        launch, scripts = ["--multi_gpu", "--num_machines=1", "--dynamo_backend=no"], ["-m", "adaswitch_lib", "train"]
        options |= {"use_cpu": True, "teacher_model": options.pop("teacher"), "dataset_name": options.pop("prompts")}
    else:
        launch, scripts = [f"--config_file=examples/accelerate_{kind}.yaml"], ["tests/cpus_as_gpus.py", "examples/distill.py"]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        launch += ["--num_processes=2", "--mixed_precision=no", f"--main_process_port={free.getsockname()[1]}"]
    options = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
    }
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch, *scripts, *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]

    for step in (1, 2):
        file = f"completions/completions_0000{step}.parquet"
        tables = [pd.read_parquet(folder / file) for folder in (alone / "out", tmp_path)]
        texts = [sorted(zip(table.prompt, map(str, map(list, table.completion)), strict=True)) for table in tables]
        assert len(texts[0]) == 4 and texts[0] == texts[1]
    one, two = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (alone / "out", tmp_path))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=1e-5, rtol=1e-4, msg=name)
