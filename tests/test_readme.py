"""README: its examples run as they stand, its commands and files exist, its table is that of the results."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(code, folder):
    """What the code prints, run in an empty folder."""
    file = folder / "example.py"
    file.write_text(code)
    out = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, cwd=folder)
    assert out.returncode == 0, out.stderr[-2000:]
    return out.stdout


def test_a_pair_of_ones_own_is_trained_in_ten_lines(tmp_path):
    assert len(EXAMPLES[0].splitlines()) <= 10
    before = 'before = load_pair("tiny").student.lm_head.weight\nassert not before.equal(student.lm_head.weight)\n'
    assert "switch_rate" in run(EXAMPLES[0] + before, tmp_path)
    assert (tmp_path / "out" / "student" / "model.safetensors").exists()


def test_texts_are_shown_with_their_writers(tmp_path):
    printed = run(EXAMPLES[1], tmp_path)
    assert "student" in printed and "teacher" in printed  # a row switched


@pytest.mark.parametrize(("page", "most"), [("README.md", 1300), ("docs/results.md", 1500)])
def test_pages_are_short(page, most):
    assert len((ROOT / page).read_text().split()) <= most


def test_every_example_is_run():
    assert len(EXAMPLES) == 2


def test_every_command_is_a_target_that_help_lists():
    listed = subprocess.run(["make", "-s", "help"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    targets = {line.split()[0] for line in listed.splitlines()}
    pages = README + (ROOT / "CONTRIBUTING.md").read_text()
    commands = set(re.findall(r"^ *make ([a-z-]+)|`make ([a-z-]+)", pages, re.MULTILINE))
    assert commands and {name for pair in commands for name in pair if name} <= targets
    assert {"setup", "quickstart", "reproduce", "figures", "test", "bench", "lint", "lab", "site", "clean"} <= targets


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", *map(str, (ROOT / "docs").glob("*.md"))])
def test_every_linked_file_exists(page):
    file = ROOT / page
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)", file.read_text()) if not link.startswith(("http", "#"))]
    assert all((file.parent / link).exists() for link in links), links


def test_the_rule_is_the_second_heading():
    headings = re.findall(r"^#+ (.*)", re.sub(r"```.*?```", "", README, flags=re.DOTALL), re.MULTILINE)
    assert headings[1].startswith("The rule") and "adaswitch_lib/switching.py" in README.split(headings[1])[1][:120]


def test_the_table_is_that_of_the_reference_run():
    spec = importlib.util.spec_from_file_location("readme_table", ROOT / "docs" / "readme_table.py")
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    assert table.written() == README, "make readme-table"


@pytest.mark.parametrize("repo", ["", "name", "a/b/c", "a'b/c", "a&b/c", "a b/c", "/a", "a/"])
def test_badges_take_an_address_and_nothing_else(repo, tmp_path):
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / "constraints.txt").touch()
    (tmp_path / "README.md").write_text("OWNER/REPO")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "a.ipynb").write_text("OWNER/REPO")
    assert subprocess.run(["make", "badges", f"REPO={repo}"], capture_output=True, cwd=tmp_path).returncode == 2
    assert (tmp_path / "README.md").read_text() == "OWNER/REPO"
    subprocess.run(["make", "badges", "REPO=ada-1/switch.py"], capture_output=True, check=True, cwd=tmp_path)
    assert (tmp_path / "README.md").read_text() == (tmp_path / "notebooks" / "a.ipynb").read_text() == "ada-1/switch.py"


def test_library_files_can_be_read_in_an_evening():
    lengths = {file.name: len(file.read_text().splitlines()) for file in (ROOT / "adaswitch_lib").rglob("*.py")}
    assert max(lengths.values()) <= 300, lengths
