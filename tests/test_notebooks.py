import re
from pathlib import Path

import nbformat
import papermill
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


@every_notebook
def test_notebooks_are_prose_and_calls(file):
    notebook = nbformat.read(file, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    lines = [line for cell in code for line in cell.source.splitlines()]
    assert notebook.metadata.kernelspec.name == "python3"
    assert len(code) <= 8 and all(len(cell.source.splitlines()) <= 15 for cell in code)
    assert not any(re.match(r"\s*(def|class) ", line) for line in lines)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert not any(cell.outputs or cell.execution_count for cell in code)


@every_notebook
def test_every_parameter_that_make_passes_exists(file):
    passed = re.findall(r"-p (\w+)", (ROOT / "Makefile").read_text())
    assert set(passed) <= set(papermill.inspect_notebook(str(file)))


@every_notebook
def test_notebooks_run_headless(file, tmp_path, monkeypatch):
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    monkeypatch.delenv("MPLBACKEND")  # set for the other tests; a kernel that inherits it shows no figure
    known = papermill.inspect_notebook(str(file))
    small = {"pair": "tiny", "headless": True, "preset": "test", "max_new_tokens": 24}
    parameters = {name: value for name, value in small.items() if name in known}
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(str(file), str(out), parameters=parameters, kernel_name="python3", progress_bar=False)
    outputs = [output for cell in nbformat.read(out, 4).cells if cell.cell_type == "code" for output in cell.outputs]
    assert not any(output.get("name") == "stderr" for output in outputs)
    if file.stem == "01_switching_rule":
        assert {"figure_1.pdf", "figure_1.png", "figure_2.pdf", "figure_2.png"} <= {
            f.name for f in (tmp_path / "figures/test").iterdir()
        }
        assert (tmp_path / "results/test/traces.parquet").exists()
        assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
