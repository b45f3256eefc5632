"""The benchmark for a GPU, in tiny shapes on a CPU: it goes through all of its parts, and may be stopped at any time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent.parent / "benchmarks"


def dry_run(out, *options):
    command = [sys.executable, FOLDER / "gpu.py", "--dry-run", "--out", out, *options]
    subprocess.run(command, check=True, timeout=1200, capture_output=True, text=True)
    return [json.loads(line) for line in (out / "gpu.jsonl").read_text().splitlines()]


def test_all_of_it_in_tiny_shapes(tmp_path):
    lines = dry_run(tmp_path)
    assert not [line for line in lines if "error" in line]
    assert {line["stage"] for line in lines} == {"right", "shapes", "growth", "others"}
    exact = [line for line in lines if line["stage"] == "right" and line["part"].startswith("float32, rows")]
    assert exact and all(line[what] == 1 for line in exact for what in ("alone", "token by token", "static"))
    assert len(list(tmp_path.iterdir())) <= 8
    table = (tmp_path / "gpu.md").read_text()
    assert all(word in table for word in ("Qwen2.5-3B", "Llama-3.2-3B", "transformers / static", "naive loop", "of onpolicy"))

    # the next call measures what is missing, failed or was being written, and nothing else
    kept = [line for line in lines if not line["part"].endswith("| batch | 2 | static")]
    kept[0] = kept[0] | {"error": "out of memory"}
    before = tmp_path / "before.jsonl"
    before.write_text("".join(json.dumps(line) + "\n" for line in kept) + '{"stage": "right", "par')
    again = dry_run(tmp_path / "again", "--before", before, "--stages", "growth")
    assert again[: len(kept) - 1] == kept[1:]
    assert [line["part"] for line in again[len(kept) - 1 :]] == [line["part"] for line in lines if line not in kept[1:]][1:]


def test_no_second_is_no_measurement(tmp_path):
    assert dry_run(tmp_path, "--seconds", "0") == []
    assert (tmp_path / "gpu.md").is_file()


@pytest.mark.parametrize("name", ["Qwen2.5-3B → 0.5B", "Llama-3.2-3B → 1B"])
def test_pairs_have_the_sizes_of_the_papers(name, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    from random_pairs import random_pair

    billions = {"Qwen2.5-3B → 0.5B": (3.09, 0.49), "Llama-3.2-3B → 1B": (3.21, 1.24)}[name]  # as their model cards say
    pair = random_pair(name, device="meta")
    for model, expected in zip(pair[:2], billions, strict=True):
        assert sum(weight.numel() for weight in model.parameters()) / 1e9 == pytest.approx(expected, abs=0.006)
        assert model.dtype is torch.bfloat16
