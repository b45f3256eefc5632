import json
import subprocess
import sys

import pandas as pd
import pytest
from helpers import write

from adaswitch_lib import AdaSwitch, OnPolicy, SwitchRule, figures, first_switch
from adaswitch_lib.paths import figures_dir, home, results_dir
from adaswitch_lib.records import write_table
from adaswitch_lib.widgets import coloured_tokens, rule_on_trace

RULE = SwitchRule(multiplier=1.3, window=4, min_history=2)


@pytest.fixture(scope="module")
def traces(pair, prompts):
    frames = {
        name: write(p, pair, prompts).to_frame(pair.tokenizer)
        for name, p in (("on-policy", OnPolicy()), ("AdaSwitch", AdaSwitch(RULE)))
    }
    return {name: frame[frame["example"] == 1] for name, frame in frames.items()}


def test_figures_are_the_same_bytes_on_a_second_draw(traces, tmp_path):
    drawn = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        figures.save(figures.writers(traces), folder, "one")
        figures.save(figures.switch_trace(traces["AdaSwitch"]), folder, "two")
        drawn.append({file.name: file.read_bytes() for file in sorted(folder.iterdir())})
    assert list(drawn[0]) == ["one.pdf", "one.png", "two.pdf", "two.png"]
    assert drawn[0] == drawn[1]


def test_switch_trace_marks_the_switch_and_draws_every_divergence(traces):
    trace = traces["AdaSwitch"]
    ax = figures.switch_trace(trace)
    switch = int(trace.loc[trace["source"] == "teacher", "pos"].min())
    assert any(f"d_{{{switch}}}" in text.get_text() for text in ax.texts)
    assert ax.get_lines()[0].get_ydata().tolist() == trace["divergence"].tolist()
    assert "nats" in ax.get_ylabel()


def test_figures_take_tokens_that_look_like_markup(traces):
    odd = traces["AdaSwitch"].assign(token="$x_{")
    ax = figures.switch_trace(odd)
    ax.figure.canvas.draw()
    figures.writers({"odd": odd}).figure.canvas.draw()
    assert "&lt;b&gt;" in coloured_tokens(odd.assign(token="<b>")).data


def test_rule_on_a_stored_trace_is_the_rule(pair, prompts, traces):
    rollout = write(OnPolicy(), pair, prompts)
    switch = int(first_switch(rollout.divergence, rollout.completion_mask, RULE)[1])
    tried = rule_on_trace(traces["on-policy"], RULE)
    assert switch >= 0 and tried.loc[tried["source"] == "teacher", "pos"].min() == switch


def test_what_draws_figures_does_not_load_torch():
    code = "import sys, adaswitch_lib.figures, adaswitch_lib.records, adaswitch_lib.paths; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_tables_are_written_whole_and_with_provenance(tmp_path):
    frame = pd.DataFrame({"a": [1, 2]})
    for name, read in (("t.csv", pd.read_csv), ("t.parquet", pd.read_parquet)):
        file = write_table(frame, tmp_path / name, seed=3, rule=RULE)
        pd.testing.assert_frame_equal(read(file), frame)
        provenance = json.loads((tmp_path / f"{name}.provenance.json").read_text())
        assert provenance["settings"]["seed"] == 3 and "multiplier=1.3" in provenance["settings"]["rule"]
        assert provenance["packages"]["torch"]
    assert not list(tmp_path.glob("*.tmp"))
    with pytest.raises(ValueError, match=r"\.csv or \.parquet"):
        write_table(frame, tmp_path / "t.xls")


def test_results_go_where_adaswitch_home_says(tmp_path, monkeypatch):
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    assert results_dir("micro") == tmp_path / "results" / "micro" and figures_dir("micro").is_dir()
    monkeypatch.delenv("ADASWITCH_HOME")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "adaswitch_lib").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert home() == tmp_path
