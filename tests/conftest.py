import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import pandas as pd
import pytest
import torch

from adaswitch_lib import load_pair

torch.set_num_threads(1)


def pytest_configure(config):
    config.addinivalue_line("markers", "smollm2: loads SmolLM2-135M from its wheel; takes most of the time of the set")


@pytest.fixture(scope="session")
def pair():
    return load_pair("tiny")


@pytest.fixture(scope="session")
def prompts():
    """Eight prompts of 1 to 7 tokens, padded on the left."""
    ids = torch.randint(4, 20, (8, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    for row, padding in enumerate((0, 0, 2, 3, 0, 6, 1, 0)):
        mask[row, :padding] = 0
    return ids * mask, mask


@pytest.fixture
def real_data(tmp_path, monkeypatch):
    """A few rows of every real task in words that the tiny tokenizer knows, and a place for results."""
    monkeypatch.setenv("ADASWITCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path / "home"))
    names = ("Ann", "Bob", "she", "he")
    solved = [
        {"question": f"{name} has {n} apples", "answer": f"{name} has {n} . #### 3"} for name in names for n in ("two", "one")
    ]
    changed = {"solution": "she has 3", "answer": "3", "perturbation_type": "distraction insertion"}
    talks = [{"dialogue": " and ".join(["Ann"] * n), "summary": f"{name} has books"} for n in (1, 2, 40) for name in names]
    talks = [talk | {"dialogue": f"{talk['summary'].split()[0]} {talk['dialogue']}"} for talk in talks]
    files = {
        "gsm8k/train": solved * 3,
        "gsm8k/test": solved[:4],
        "gsm_plus/testmini": [{"question": "Bob has three cats"} | changed] * 2,
        "dialogsum/train": talks,
        "dialogsum/validation": [{"dialogue": "or or", "summary": "she has cats"}] * 2,
        "dialogsum/test": [{"dialogue": "now " * 60, "summary1": "he", "summary2": "he has", "summary3": "he has cats"}],
    }
    for name, rows in files.items():
        file = tmp_path / "data" / f"{name}.jsonl{'.gz' if name == 'dialogsum/train' else ''}"
        file.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_json(file, orient="records", lines=True)
    return tmp_path
