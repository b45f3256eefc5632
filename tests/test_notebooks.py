import re
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest
from helpers import SMALL, saved
from made_lane import made_lane
from made_results import everything

from adaswitch_lib.experiments import PRESETS
from adaswitch_lib.experiments import run as run_of
from adaswitch_lib.experiments.config import Pretrained, SFTConfig
from adaswitch_lib.experiments.reference_scores import score_references

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
    calls = [line for line in (ROOT / "Makefile").read_text().splitlines() if "papermill -k" in line or "$(PAPERMILL) -p" in line]
    of_presets = file.stem[:2] not in ("00", "01", "14")
    for_it = [
        line for line in calls if file.name in line or ".ipynb $(OUT)" not in line and (of_presets or "-p preset" not in line)
    ]
    passed = re.findall(r"-p (\w+)", "\n".join(for_it))
    assert "headless" in passed and set(passed) <= set(papermill.inspect_notebook(str(file)))


# ru_maxrss would be that of the process that started the kernel, if that was larger
MEASURE = """
import sys
from pathlib import Path
print("torch" in sys.modules, int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024)
"""


def run(name, out, **parameters):
    """Execute a notebook as users do; returns the outputs of its cells, of which the last says what was loaded and peak MB."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
    notebook.cells.append(nbformat.v4.new_code_cell(MEASURE))
    file = out.with_suffix(".source.ipynb")
    nbformat.write(notebook, file)
    known = papermill.inspect_notebook(str(file))
    parameters = {key: value for key, value in ({"headless": True} | parameters).items() if key in known}
    papermill.execute_notebook(str(file), str(out), parameters=parameters, kernel_name="python3", progress_bar=False)
    return [output for cell in nbformat.read(out, 4).cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with results that were made up."""
    home = tmp_path_factory.mktemp("home")
    everything(home / "results" / "smoke")
    made_lane(home / "results" / "lane")
    return home


@pytest.fixture
def inline(monkeypatch):
    monkeypatch.delenv("MPLBACKEND")  # set for the other tests; a kernel that inherits it shows no figure


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder with the texts that the repository keeps, and nothing else."""
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    shutil.copytree(ROOT / "results" / "quickstart", tmp_path / "results" / "quickstart")
    return tmp_path


@pytest.mark.parametrize("name", ["00_start_here", "01_switching_rule"])
def test_the_first_notebooks_run_where_a_hub_gives_one_gigabyte(name, kept, inline):
    outputs = run(name, kept / "out.ipynb")
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert int(outputs[-1]["text"].split()[-1]) < 700  # megabytes; JupyterLab itself takes some 150
    assert sum('class="adaswitch"' in html(output) for output in outputs) == {"00_start_here": 1, "01_switching_rule": 2}[name]
    if name == "01_switching_rule":
        assert drawn(kept / "figures" / "quickstart") == {"figure_1", "figure_2"} and len(pictures(outputs)) == 2


def test_texts_written_anew_leave_the_kept_ones_alone(kept, inline):
    before = (kept / "results/quickstart/traces.parquet").read_bytes()
    outputs = run("01_switching_rule", kept / "out.ipynb", pair="micro", write=True)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert drawn(kept / "figures" / "quickstart_micro") == {"figure_1", "figure_2"}
    assert (kept / "results/quickstart/traces.parquet").read_bytes() == before
    assert (kept / "results/quickstart_micro/traces.parquet").exists()


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("03_main_results", {"differences"}),
        ("04_metric_comparison", {"figure_3"}),
        ("05_switch_rate", {"figure_4a"}),
        ("06_kld_curves", {"figure_4b"}),
        ("07_early_stage_validation", {"figure_5", "lead", "students"}),
        ("08_cost", {"step_seconds"}),
        ("09_sensitivity", {"rules", "floors"}),
        ("10_controls", {"controls"}),
        ("12_why", {"exposure", "along_the_sequence"}),
        ("13_when_it_pays", {"prompts", "initial_students"}),
    ],
)
def test_notebooks_of_results_run_headless(name, figures, home, tmp_path, monkeypatch, inline):
    monkeypatch.setenv("ADASWITCH_HOME", str(home))
    outputs = run(name, tmp_path / "out.ipynb", preset="smoke")
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert figures <= drawn(home / "figures" / "smoke")
    of_the_lane = {"who_wins", "advice"} if name == "13_when_it_pays" else set()
    assert of_the_lane <= drawn(home / "figures" / "lane")
    assert len(pictures(outputs)) == len(figures | of_the_lane) and all(pictures(outputs))
    shown = re.sub("<img[^>]*>", "", "".join(html(output) for output in outputs if "data-shown" not in html(output)))
    assert not re.search(r"micro_|onpolicy|adaswitch|forward_kl|trained_on", shown)
    for table in re.findall("<table.*?</table>", re.sub("<details>.*?</details>", "", shown, flags=re.DOTALL), re.DOTALL):
        assert table.count("<tr") <= 11  # ten rows and the heading
    torch_loaded, megabytes = outputs[-1]["text"].split()
    assert torch_loaded == "False" and int(megabytes) < 500  # a Binder has 1,000 for kernel and server


def test_results_are_drawn_the_same_bytes_again(home, tmp_path, monkeypatch):
    made = []
    for again in ("a", "b"):
        (tmp_path / again).mkdir()
        (tmp_path / again / "results").symlink_to(home / "results")
        monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path / again))
        run("03_main_results", tmp_path / f"{again}.ipynb", preset="smoke")
        files = [*(tmp_path / again / "figures" / "smoke").iterdir(), *(home / "results/smoke/tables").iterdir()]
        made.append({file.name: file.read_bytes() for file in files})
    assert {"differences.pdf", "differences.png", "table_1.csv"} < set(made[0]) and made[0] == made[1]


def test_the_notebook_of_the_real_llm_runs_headless(real_data, tmp_path, inline):
    name = "11_real_llm"
    teacher, student = saved(real_data)
    start = SFTConfig(Pretrained(student), num_rows=4, steps=1, batch_size=2)
    settings = SMALL | {"teacher": teacher, "initial_student": start, "variant": ""}
    configs = [PRESETS["smollm2"].config("dialogsum", method, 0, **settings) for method in ("onpolicy", "adaswitch")]
    for config in configs:
        run_of(config)
    score_references(configs)
    outputs = run(name, tmp_path / "out.ipynb", preset="smollm2")
    home = real_data / "home"
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert drawn(home / "figures" / "smollm2") == {"real_rollout", "real_divergence", "real_curves"}
    assert set(pd.read_parquet(home / "results/smollm2/other_tasks.parquet").task) == {"dialogsum", "gsm8k", "gsm_plus"}


def test_the_notebook_of_the_real_llm_shows_kept_results_without_the_dialogues(tmp_path, monkeypatch):
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    monkeypatch.setenv("ADASWITCH_DATA", str(tmp_path / "nothing"))
    (tmp_path / "results").mkdir()
    shutil.copytree(ROOT / "results" / "smollm2", tmp_path / "results" / "smollm2", ignore=shutil.ignore_patterns("teachers"))
    outputs = run("11_real_llm", tmp_path / "out.ipynb", preset="smollm2")
    assert any("not here" in output.get("text", "") for output in outputs)
    assert len(pictures(outputs)) == 3 and any("initial student" in html(output) for output in outputs)


def test_the_notebook_of_your_own_pair_runs_headless(tmp_path, monkeypatch, inline):
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    outputs = run("14_your_own_pair", tmp_path / "out.ipynb", steps=2)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert (tmp_path / "figures" / "your_own_pair" / "training.png").exists()


def test_every_notebook_is_run_by_a_test():
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    trained = ROOT / "notebooks" / "02_train_students.ipynb"  # CI runs it: make reproduce PRESET=smoke
    assert all(f'"{file.stem}' in tests for file in NOTEBOOKS if file != trained)


def drawn(folder):
    """Names of the figures that are there both as PNG and as PDF."""
    return {file.stem for file in folder.glob("*.png")} & {file.stem for file in folder.glob("*.pdf")}


def html(output):
    return output.get("data", {}).get("text/html", "")


def pictures(outputs):
    """Alternative texts of the pictures that a notebook shows; all of them are HTML, which has one."""
    assert not any("image/png" in output.get("data", {}) for output in outputs)
    return re.findall(r'<img alt="([^"]*)"', "".join(html(output) for output in outputs))
