import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from adaswitch_lib import load_pair
from adaswitch_lib.__main__ import main
from adaswitch_lib.experiments.records import read_table, reference_scores, with_settings
from adaswitch_lib.report import claims, tables

ROOT = Path(__file__).parents[1]
README, BENCHMARKS, ACCOUNT = ((ROOT / folder / "README.md").read_text() for folder in ("", "benchmarks", "results"))


EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_example_runs_as_it_stands(tmp_path):
    code = EXAMPLES[0]
    file = tmp_path / "example.py"
    file.write_text(code + "\nassert student.lm_head.weight.grad.abs().sum() > 0\n")
    out = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "divergence" in out.stdout and "teacher" in out.stdout  # a row switched


def test_a_method_is_added_in_twenty_lines(tmp_path):
    code = EXAMPLES[1]
    assert len(code.splitlines()) <= 20
    file = tmp_path / "method.py"
    file.write_text(code)
    environment = os.environ | {"ADASWITCH_HOME": str(tmp_path), "TQDM_DISABLE": "1"}
    subprocess.run([sys.executable, str(file)], check=True, cwd=tmp_path, env=environment)
    switches = pd.read_csv(tmp_path / "results" / "smoke" / "switches.csv")
    assert (switches.switch_rate > 0).all() and (switches.switch_divergence > 2).all()


def test_the_trainer_takes_models_and_texts_of_ones_own(tmp_path):
    before = load_pair("tiny").student.lm_head.weight.norm().item()
    file = tmp_path / "train.py"
    file.write_text(EXAMPLES[2] + "\nprint(student.lm_head.weight.norm().item())\n")
    out = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert float(out.split()[-1]) != before and "'switch_rate'" in out


def test_every_command_is_a_target_and_every_file_exists():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    commands = set(re.findall(r"\bmake ([a-z]+)", README))
    assert commands and commands <= set(targets)
    for file in (ROOT / "README.md", ROOT / "results" / "README.md", ROOT / "benchmarks" / "README.md"):
        links = [link for link in re.findall(r"\]\(([^)]+)\)", file.read_text()) if not link.startswith(("http", "#"))]
        assert links and all((file.parent / link.split("#")[0]).exists() for link in links)


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
    verdicts = claims.verdicts(claims.table(results))
    assert table in README and tables.markdown(verdicts[verdicts.source != "ours"]) in README
    assert table in (results / "tables" / "table_1.md").read_text().replace("**", "")
    assert tables.markdown(verdicts) in (results / "claims.md").read_text()


def test_the_results_of_the_real_llm_are_those_of_its_runs():
    results = ROOT / "results" / "smollm2"
    metrics, references = with_settings(results, "metrics"), reference_scores(results)
    all_methods = tables.main_results(metrics, references)
    table = tables.markdown(all_methods)
    found = tables.paired_differences(tables.final_scores(metrics)).set_index("against").loc["onpolicy"]
    interval = f"{found['mean']:.3f} [{found.low:.3f}, {found.high:.3f}]".replace("-", "−")
    teacher = f"{references.value[references.method == 'teacher'].item():.3f}"
    bench = pd.read_csv(ROOT / "results" / "bench" / "training_smollm2.csv").set_index("method").seconds
    assert table in (results / "tables" / "table_1.md").read_text()
    seeds = metrics.groupby("method").seed.nunique()
    whole = tables.main_results(metrics[metrics.method.isin(seeds[seeds == 3].index)], references)
    columns = {"seed 0": tables.main_results(metrics[metrics.seed == 0]), "three seeds": whole}
    shown = pd.concat({name: column.squeeze() for name, column in columns.items()}, axis=1).reindex(all_methods.index)
    for text in (README, ACCOUNT):
        assert tables.markdown(shown.rename_axis("method").fillna("–")) in text and interval in text and f"has {teacher}" in text
    for other, label in {"kd": "KD", "onpolicy": "on-policy KD", "skd": "SKD"}.items():
        assert f"{bench['adaswitch'] / bench[other]:.2f} times one of {label}" in ACCOUNT
    wide = with_settings(results, "items").pivot_table("rouge_l", "seed", "method")
    leads = [f"{lead:.3f}" for lead in (wide.adaswitch - wide.onpolicy).dropna()]
    assert f"by {leads[0]}, {leads[1]} and {leads[2]}" in ACCOUNT
    early = claims.table(results).set_index("what").loc["AdaSwitch − On-policy KD, mean validation score of the first half"]
    assert f"{early['mean']:.3f} [−{-early.low:.3f}, {early.high:.3f}]" in ACCOUNT


def test_the_ratios_are_those_that_were_measured():
    micro, smollm2 = (pd.read_csv(ROOT / "results" / "bench" / f"ratios_{pair}.csv") for pair in ("micro", "smollm2"))
    for what, wanted, ours, theirs in zip(
        micro["what"], micro["wanted"], micro["times faster"], smollm2["times faster"], strict=True
    ):
        assert f"| {what} | {wanted} | {ours} | {theirs} |" in BENCHMARKS
    assert (
        f"{micro.set_index('what').loc['AdaSwitch against the naive loop', 'times faster']} times as fast as a naive loop" in README
    )
    training = pd.read_csv(ROOT / "results" / "bench" / "training_micro.csv").set_index(["task", "method"])
    told = re.findall(r"^\| ([\w, ]+) ((?:\| [\d.]+ ){4})\|$", BENCHMARKS, re.MULTILINE)
    assert len(told) == 7
    for method, numbers in told:
        cells = [
            training.loc[(task, method), name] for task in ("micro_gsm", "micro_dialog") for name in ("seconds", "of onpolicy")
        ]
        assert numbers == "".join(f"| {value:.2f} " for value in cells), method
    ours = training.seconds.unstack("method").loc[["micro_gsm", "micro_dialog"]]
    for other in ("onpolicy", "skd"):
        assert "{:.2f} and {:.2f} times one of".format(*(ours.adaswitch / ours[other])) in README.replace("\n", " ")
    found = claims.table(ROOT / "results" / "micro").set_index(["what", "task"]).loc["seconds a step, AdaSwitch / KD (1.2 to 1.4)"]
    for task in ("micro GSM", "micro dialogues"):
        line = found.loc[task]
        for text in (README, BENCHMARKS, ACCOUNT):
            assert f"{line['mean']:.2f} [{line.low:.2f}, {line.high:.2f}]" in text
    loss = pd.read_csv(ROOT / "results" / "bench" / "loss.csv").set_index(["dtype", "loss"])
    for column in ("seconds", "peak_mb"):
        for dtype in ("float32", "bfloat16"):
            assert f"{loss.loc[(dtype, 'chunked'), column] / loss.loc[(dtype, 'plain'), column]:.2f}" in BENCHMARKS
