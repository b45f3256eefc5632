"""docs/extending.md, block by block: a method, a policy, a task and a figure are added as it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from adaswitch_lib.experiments.records import read_table, with_settings

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A folder in which the page's code has run, as one program."""
    home = tmp_path_factory.mktemp("home")
    file = home / "extending.py"
    file.write_text("\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)))
    environment = os.environ | {"ADASWITCH_HOME": str(home), "TQDM_DISABLE": "1"}
    out = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, cwd=home, env=environment)
    assert out.returncode == 0, out.stderr[-2000:]
    return home


def test_a_method_with_a_policy_of_its_own_trains(extended):
    switches = with_settings(extended / "results" / "smoke", "switches")
    assert set(switches.method) == {"limit"}
    assert (switches.switch_rate > 0).all() and (switches.switch_divergence > 2).all()


def test_students_are_tested_on_a_task_of_ones_own(extended):
    metrics = read_table(extended / "results" / "own", "metrics")
    assert set(metrics[metrics.split == "test"].metric) == {"accuracy"} and set(metrics.task) == {"reversal"}


def test_a_figure_of_ones_own_is_written(extended):
    assert {file.name for file in (extended / "figures" / "own").iterdir()} == {"teacher_share.png", "teacher_share.pdf"}
