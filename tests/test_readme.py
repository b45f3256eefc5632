import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from adaswitch_lib import claims, tables
from adaswitch_lib.__main__ import main
from adaswitch_lib.records import read_table, reference_scores, with_settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_example_runs_as_it_stands(tmp_path):
    code = EXAMPLES[0]
    file = tmp_path / "example.py"
    file.write_text(code + "\nassert student.lm_head.weight.grad.abs().sum() > 0\n")
    out = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "divergence" in out.stdout


def test_a_method_is_added_in_twenty_lines(tmp_path):
    code = EXAMPLES[1]
    assert len(code.splitlines()) <= 20
    file = tmp_path / "method.py"
    file.write_text(code)
    environment = os.environ | {"ADASWITCH_HOME": str(tmp_path), "TQDM_DISABLE": "1"}
    subprocess.run([sys.executable, str(file)], check=True, cwd=tmp_path, env=environment)
    switches = pd.read_csv(tmp_path / "results" / "smoke" / "switches.csv")
    assert (switches.switch_rate > 0).all() and (switches.switch_divergence > 2).all()


def test_every_command_is_a_target_and_every_file_exists():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    commands = set(re.findall(r"\bmake ([a-z]+)", README))
    assert commands and commands <= set(targets)
    for file in (ROOT / "README.md", ROOT / "results" / "README.md"):
        links = [link for link in re.findall(r"\]\(([^)]+)\)", file.read_text()) if not link.startswith("http")]
        assert links and all((file.parent / link).exists() for link in links)


def test_the_commands_of_the_library_run(tmp_path, monkeypatch):
    """With the smallest preset instead of the one that is named."""
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    commands = re.findall(r"^python -m adaswitch_lib (\w+) --preset \w+(.*)$", README, re.MULTILINE)
    assert [name for name, _ in commands] == ["run", "run", "status"]
    for name, rest in commands:
        assert main([name, "--preset", "smoke", *rest.split("#")[0].split()]) == 0
    assert {"adaswitch", "onpolicy"} <= set(read_table(tmp_path / "results" / "smoke", "runs").method)


def test_the_rule_is_the_second_heading():
    headings = re.findall(r"^#+ (.*)", re.sub(r"```.*?```", "", README, flags=re.DOTALL), re.MULTILINE)
    assert headings[1].startswith("The rule") and "adaswitch_lib/switching.py" in README.split(headings[1])[1][:120]


def test_library_files_can_be_read_in_an_evening():
    lengths = {file.name: len(file.read_text().splitlines()) for file in (ROOT / "adaswitch_lib").rglob("*.py")}
    assert max(lengths.values()) <= 300, lengths


@pytest.mark.parametrize("target", ["setup", "quickstart", "test", "bench", "lint", "lab"])
def test_make_help_lists_the_target(target):
    out = subprocess.run(["make", "-s", "help"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert re.search(rf"^{target} ", out, re.MULTILINE)


def test_the_results_are_those_of_the_reference_run():
    """Tables here and beside the results are what the runs in `results/micro` say."""
    results = ROOT / "results" / "micro"
    table = tables.markdown(tables.main_results(with_settings(results, "metrics"), reference_scores(results)))
    verdicts = tables.markdown(claims.verdicts(claims.table(results)))
    assert table in README and verdicts in README
    assert table in (results / "tables" / "table_1.md").read_text().replace("**", "")
    assert verdicts in (results / "claims.md").read_text()


def test_the_results_of_the_real_llm_are_those_of_its_runs():
    results = ROOT / "results" / "smollm2"
    metrics, references = with_settings(results, "metrics"), reference_scores(results)
    table = tables.markdown(tables.main_results(metrics, references))
    found = tables.paired_differences(tables.final_scores(metrics)).set_index("against").loc["onpolicy"]
    interval = f"{found['mean']:.3f} [{found.low:.3f}, {found.high:.3f}]".replace("-", "−")
    teacher = f"{references.value[references.method == 'teacher'].item():.3f}"
    bench = pd.read_csv(ROOT / "results" / "bench" / "training_smollm2.csv").set_index("method").seconds
    account = (ROOT / "results" / "README.md").read_text()
    assert table in (results / "tables" / "table_1.md").read_text()
    for text in (README, account):
        assert table in text and interval in text and f"has {teacher}" in text
    for other, label in {"kd": "KD", "onpolicy": "on-policy KD", "skd": "SKD"}.items():
        assert f"{bench['adaswitch'] / bench[other]:.2f} times one of {label}" in account
    wide = with_settings(results, "items").pivot_table("rouge_l", "seed", "method")
    leads = [f"{lead:.3f}" for lead in (wide.adaswitch - wide.onpolicy).dropna()]
    assert f"by {leads[0]}, {leads[1]} and {leads[2]}" in account
    early = claims.table(results).set_index("what").loc["AdaSwitch − On-policy KD, mean validation score of the first half"]
    assert f"{early['mean']:.3f} [−{-early.low:.3f}, {early.high:.3f}]" in account


def test_the_ratios_are_those_that_were_measured():
    micro, smollm2 = (pd.read_csv(ROOT / "results" / "bench" / f"ratios_{pair}.csv") for pair in ("micro", "smollm2"))
    for what, wanted, ours, theirs in zip(
        micro["what"], micro["wanted"], micro["times faster"], smollm2["times faster"], strict=True
    ):
        assert f"| {what} | {wanted} | {ours} | {theirs} |" in README
    training = pd.read_csv(ROOT / "results" / "bench" / "training_micro.csv").set_index(["task", "method"])
    told = re.findall(r"^\| ([\w, ]+) ((?:\| [\d.]+ ){4})\|$", README.split("Seconds of a training step")[1], re.MULTILINE)
    assert len(told) == 7
    for method, numbers in told:
        cells = [
            training.loc[(task, method), name] for task in ("micro_gsm", "micro_dialog") for name in ("seconds", "of onpolicy")
        ]
        assert numbers == "".join(f"| {value:.2f} " for value in cells), method
    ratios = [training.loc[(task, "adaswitch"), "of kd"] for task in ("micro_gsm", "micro_dialog")]
    assert "it is {:.1f} and {:.1f} times KD".format(*ratios) in README
    loss = pd.read_csv(ROOT / "results" / "bench" / "loss.csv").set_index(["dtype", "loss"])
    for column in ("seconds", "peak_mb"):
        for dtype in ("float32", "bfloat16"):
            assert f"{loss.loc[(dtype, 'chunked'), column] / loss.loc[(dtype, 'plain'), column]:.2f}" in README
