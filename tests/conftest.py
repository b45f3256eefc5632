import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

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
