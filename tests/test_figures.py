import json
import subprocess
import sys

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from helpers import write

from adaswitch_lib import AdaSwitch, OnPolicy, SwitchRule, first_switch
from adaswitch_lib.experiments.paths import figures_dir, home, results_dir
from adaswitch_lib.experiments.records import write_table
from adaswitch_lib.report import figures, rollout_figures
from adaswitch_lib.report.plot_style import LOOKS
from adaswitch_lib.report.widgets import coloured_tokens, rule_on_trace

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
        figures.save(rollout_figures.writers(traces), folder, "one")
        figures.save(rollout_figures.switch_trace(traces["AdaSwitch"]), folder, "two")
        drawn.append({file.name: file.read_bytes() for file in sorted(folder.iterdir())})
    assert list(drawn[0]) == ["one.pdf", "one.png", "two.pdf", "two.png"]
    assert drawn[0] == drawn[1]


def test_switch_trace_marks_the_switch_and_draws_every_divergence(traces):
    trace = traces["AdaSwitch"]
    ax = rollout_figures.switch_trace(trace)
    switch = int(trace.loc[trace["source"] == "teacher", "pos"].min())
    assert any(f"d_{{{switch}}}" in text.get_text() for text in ax.texts)
    assert ax.get_lines()[0].get_ydata().tolist() == trace["divergence"].tolist()
    assert "nats" in ax.get_ylabel()


def test_figures_take_tokens_that_look_like_markup(traces):
    odd = traces["AdaSwitch"].assign(token="$x_{")
    ax = rollout_figures.switch_trace(odd)
    ax.figure.canvas.draw()
    ax = rollout_figures.writers({"odd": odd}, prompt="What costs $5 or $6,\nif not $7? " * 40)
    ax.figure.canvas.draw()
    asked = [text.get_text() for text in ax.texts[:4]]
    assert asked[0].startswith(r"What costs \$5 or \$6, if not") and asked[3].endswith(" …") and "odd" in ax.texts[4].get_text()
    assert "&lt;b&gt;" in coloured_tokens(odd.assign(token="<b>")).data


def test_rule_on_a_stored_trace_is_the_rule(pair, prompts, traces):
    rollout = write(OnPolicy(), pair, prompts)
    switch = int(first_switch(rollout.divergence, rollout.completion_mask, RULE)[1])
    tried = rule_on_trace(traces["on-policy"], RULE)
    assert switch >= 0 and tried.loc[tried["source"] == "teacher", "pos"].min() == switch


def test_differences_are_filled_where_they_are_sure():
    lines = [("kd", 0.3, 0.2, 0.4, 0.01), ("onpolicy", 0.1, -0.1, 0.3, 0.4)]
    table = pd.DataFrame(lines, columns=["against", "mean", "low", "high", "p_holm"])
    (axes,) = figures.panels(1, 1, 2.0)
    figures.differences(table, axes[0])
    marks = [line for line in axes[0].lines if line.get_marker() not in ("None", "")]
    assert [mark.get_markerfacecolor() == "white" for mark in marks] == [True, False]  # from the bottom: on-policy KD, KD
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["On-policy KD", "KD"]


def test_what_draws_figures_does_not_load_torch_and_loads_fast():
    modules = ", ".join(
        f"adaswitch_lib.{name}" for name in "figures rollout_figures tables claims looks statistics records paths".split()
    )
    code = f"import sys, time; start = time.process_time(); import {modules}; "
    code += "print('torch' in sys.modules, time.process_time() - start)"
    torch_loaded, seconds = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert torch_loaded == "False"
    assert float(seconds) <= 3  # 2 where nothing else runs


def test_tables_are_written_whole_and_with_provenance(tmp_path):
    frame = pd.DataFrame({"a": [1, 2]})
    for name, read in (("t.csv", pd.read_csv), ("t.parquet", pd.read_parquet)):
        file = write_table(frame, tmp_path / name, seed=3, rule=RULE)
        pd.testing.assert_frame_equal(read(file), frame)
        provenance = json.loads((tmp_path / f"{name}.provenance.json").read_text())
        assert provenance["settings"]["seed"] == 3 and "multiplier=1.3" in provenance["settings"]["rule"]
        assert provenance["packages"]["torch"]
    first = (tmp_path / "t.csv.provenance.json").read_bytes()
    write_table(frame, tmp_path / "t.csv", seed=3, rule=RULE)
    assert (tmp_path / "t.csv.provenance.json").read_bytes() == first  # nothing new, so nothing written
    write_table(frame, tmp_path / "t.csv", seed=4, rule=RULE)
    assert json.loads((tmp_path / "t.csv.provenance.json").read_text())["settings"]["seed"] == 4
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


def test_every_method_and_micro_task_has_a_look():
    from adaswitch_lib import METHODS
    from adaswitch_lib.experiments.tasks import TASKS

    assert all(LOOKS[name][2] == method.label for name, method in METHODS.items())
    assert {name for name in TASKS if name.startswith("micro")} <= LOOKS.keys()
    assert len({look[0] for look in LOOKS.values()}) == len(LOOKS) - 1  # teacher and student before are both black


def test_curves_show_means_and_intervals_over_seeds():
    table = pd.DataFrame(
        [
            {"method": method, "seed": seed, "step": step, "value": step / 100 + seed / 10}
            for method in ("kd", "adaswitch")
            for seed in (0, 1, 2)
            for step in (0, 50, 100)
        ]
    )
    _, ax = plt.subplots()
    figures.over_training(table, ax, "value")
    assert ax.get_legend_handles_labels()[1] == ["KD", "AdaSwitch"]
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([0.1, 0.6, 1.1])
    assert len(ax.collections) == 2
    figures.over_training(table[table.step > 0].assign(value=float("nan")), ax, "value")
    plt.close()


def test_steps_are_averaged_into_points_at_their_middle():
    table = pd.DataFrame({"method": "kd", "seed": 0, "step": range(1, 201), "value": [0.0] * 100 + [1.0] * 100})
    _, ax = plt.subplots()
    figures.over_training(table, ax, "value", width=100)
    assert ax.lines[0].get_xdata().tolist() == [50, 150] and ax.lines[0].get_ydata().tolist() == [0.0, 1.0]
    plt.close()


def test_points_count_by_a_weight_and_lines_go_by_numbers():
    table = pd.DataFrame(
        {"floor": [0.0, 0.0, 2.0, 2.0], "seed": 0, "step": [1, 2, 1, 2], "kl": [1.0, 4.0, 5.0, 7.0], "n": [3, 1, 1, 1]}
    )
    _, ax = plt.subplots()
    figures.over_training(table, ax, "kl", by="floor", width=2, weight="n", legend=1)
    assert [line.get_ydata().tolist() for line in ax.lines] == [[1.75], [6.0]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0.0", "2.0"]
    plt.close()


def test_divergence_is_counted_from_the_switch():
    traces = pd.DataFrame(
        {"step": 0, "seed": 0, "example": 0, "pos": range(6), "divergence": [0.1, 0.2, 0.3, 4.0, 1.0, 1.0], "switch_index": 3}
    )
    _, ax = plt.subplots()
    figures.around_the_switch(traces, ax, reach=2, least=1)
    assert ax.lines[0].get_xdata().tolist() == [-2, -1, 0, 1, 2]
    assert ax.lines[0].get_ydata()[2] == 4.0
    few, last = plt.subplots(1, 2)[1]
    figures.around_the_switch(traces, few, least=2)
    assert len(few.lines) == 1 and few.get_legend() is None  # but for the mark at zero
    figures.around_the_switch(pd.concat([traces.assign(step=step) for step in range(0, 55, 5)]), last, least=1)
    shown = [text.get_text().split(" ")[0] for text in last.get_legend().get_texts()]
    assert (shown[0], shown[-1], len(shown)) == ("0", "50", 4)
    plt.close("all")


def test_each_student_is_a_line_over_training_beside_that_of_one_half():
    table = pd.DataFrame({"method": "kd", "seed": [1, 0, 0, 1], "step": [10, 10, 0, 0], "value": [0.4, 0.3, 0.1, 0.2]})
    (ax,) = figures.panels(1, 1, 2.0)[0]
    figures.students(table, ax)
    assert [line.get_ydata().tolist() for line in ax.lines[:2]] == [[0.1, 0.3], [0.2, 0.4]]
    assert set(ax.lines[2].get_ydata()) == {0.5} and ax.lines[0].get_color() == LOOKS["kd"][0]


def test_each_seed_is_a_line_over_the_methods_that_were_run_with_it():
    table = pd.DataFrame({"method": ["kd", "kd", "sft"], "seed": [0, 1, 0], "value": [0.2, 0.4, 0.1]})
    _, ax = plt.subplots()
    figures.each_seed(table, ax)
    one, other, *means = [line.get_ydata() for line in ax.lines]
    assert list(one) == [0.1, 0.2] and pd.isna(other[0]) and other[1] == 0.4
    assert [mean[0] for mean in means] == pytest.approx([0.1, 0.3])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["SFT", "KD"]
    plt.close()


def test_scores_by_setting_and_by_two_settings():
    table = pd.DataFrame({"loss": ["KL", "JSD", "KL"], "K": [1, 3, 3], "L": [4, 4, 8], "value": [0.1, 0.2, 0.3]})
    table = table.assign(method="kd", seed=0)
    _, (left, right, nothing) = plt.subplots(1, 3)
    figures.by_setting(table, left, "loss")
    assert [label.get_text() for label in left.get_xticklabels()] == ["KL", "JSD"]
    dots, means = left.lines
    assert dots.get_ydata().tolist() == pytest.approx([0.1, 0.2, 0.3]) and dots.get_xdata().tolist() == [0, 1, 0]
    assert means.get_ydata().tolist() == pytest.approx([0.2, 0.2])
    figures.heatmap(table, right, "L", "K")
    assert sorted(text.get_text() for text in right.texts) == ["0.100", "0.200", "0.300"]  # and one cell is empty
    figures.heatmap(table[:0], nothing, "L", "K")
    assert nothing.get_title() == "no such runs yet"
    plt.close()


def test_scores_and_leads_are_paired_by_seed():
    lines = [("kd", 0, 0.2), ("kd", 1, 0.4), ("adaswitch", 0, 0.3), ("adaswitch", 1, 0.6)]
    scores = pd.DataFrame(lines, columns=["method", "seed", "value"]).assign(task="micro_gsm", metric="accuracy", prompts="64")
    left = figures.scores_and_leads(scores, "prompts")
    right = left.figure.axes[1]
    assert left.lines[1].get_ydata().tolist() == pytest.approx([0.3])  # of KD; its seeds are the line before
    assert right.lines[0].get_ydata().tolist() == pytest.approx([0.1, 0.2])
    assert right.lines[1].get_ydata().tolist() == pytest.approx([0.15])
    assert figures.scores_and_leads(scores[:0], "prompts").get_title() == "no such runs yet"
    plt.close("all")


def test_cost_growth_has_a_panel_an_axis():
    times = pd.DataFrame(
        [
            {"axis": axis, "value": value, "what": what, "seconds": value / 100}
            for axis in ("max_new_tokens", "batch", "vocab")
            for value in (8, 64)
            for what in ("adaswitch", "on-policy")
        ]
    )
    axes = figures.cost_growth(times)
    assert [len(ax.lines) for ax in axes] == [2, 2, 2]
    assert [ax.get_xlabel() for ax in axes] == ["tokens written", "rows", "words in the vocabulary"]
    plt.close()
