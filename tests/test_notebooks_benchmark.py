"""The benchmark of notebooks, on two that are made here."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd

from adaswitch_lib.experiments.table_files import read_table_file

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "notebooks.py"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
FIGURE = "%matplotlib inline\nimport matplotlib.pyplot as plt\nheld = bytearray(b'1' * 300_000_000)\nplt.plot([1]);"


def test_a_notebook_that_draws_and_one_that_fails(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for name, source in {"00_draws": FIGURE, "01_fails": "1 / 0"}.items():
        cells = [nbformat.v4.new_code_cell("preset = ''", metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(source)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), tmp_path / "notebooks" / f"{name}.ipynb")
    subprocess.run([sys.executable, BENCHMARK, "--tree", tmp_path, "--out", tmp_path], check=True, capture_output=True)
    found = read_table_file(tmp_path / "notebooks.csv").set_index("notebook")
    assert 300 < found.megabytes["00_draws"] < 900 and 0 < found.first_figure["00_draws"] < found.seconds["00_draws"]
    assert pd.isna(found.error["00_draws"]) and "ZeroDivisionError" in found.error["01_fails"]
