import re
import subprocess
import sys

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from helpers import write
from made_results import Made, everything

from adaswitch_lib import METHODS, AdaSwitch, Method, OnPolicy, SwitchRule
from adaswitch_lib.experiments.tasks import TASKS
from adaswitch_lib.report import figures
from adaswitch_lib.report.everything import FIGURES, draw  # what is left out there is tested by its own name
from adaswitch_lib.report.figures import drawing
from adaswitch_lib.report.plot_style import in_order, label, look, with_floor

RULE = SwitchRule(multiplier=1.3, window=4, min_history=2)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return everything(tmp_path_factory.mktemp("results") / "made")


@pytest.fixture(scope="module")
def traces(pair, prompts):
    policies = {"on-policy": OnPolicy(), "AdaSwitch": AdaSwitch(RULE)}
    frames = {name: write(policy, pair, prompts).to_frame(pair.tokenizer) for name, policy in policies.items()}
    return {name: frame[frame["example"] == 1] for name, frame in frames.items()}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.figure.findobj(plt.Text)]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_in_plain_words_with_alternative_text(name, results, tmp_path):
    ax = getattr(figures, name)(results)
    assert any(panel.lines or panel.images or panel.collections for panel in ax.figure.axes)
    assert ax.figure.name == name and len(ax.figure.alt.split()) > 8
    assert not [text for text in texts(ax) if re.search(r"micro_|[a-z]+_[a-z]+", text)]
    shown = figures.save(ax, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}.png", f"{name}.pdf"}
    assert f'alt="{ax.figure.alt[:20]}' in shown._repr_html_().replace("&#x27;", "'")


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_can_be_drawn_of_two_runs(name, tmp_path):
    """One seed of AdaSwitch and KD on word problems, and no study."""
    folder = Made(range(1)).grid(("micro_gsm",), ("kd", "adaswitch")).write(tmp_path)
    figures.show(getattr(figures, name)(folder))


def test_all_is_drawn_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    Made(range(1)).grid(("micro_gsm",), ("kd", "adaswitch")).write(tmp_path / "results" / "mine")
    draw("mine")
    assert {file.stem for file in (tmp_path / "figures" / "mine").iterdir()} == set(FIGURES)
    assert (tmp_path / "results" / "mine" / "claims.md").exists() and str(tmp_path / "figures") in capsys.readouterr().out


def test_differences_have_a_panel_a_task_and_floor(results):
    first, *others = figures.differences(results).figure.axes
    titles = [ax.get_title() for ax in (first, *others)]
    assert titles[0] == f"{label('micro_gsm')}\nfloor = 0" and titles[-2:] == [
        f"{label('micro_dialog')}\nfloor = {floor}" for floor in ("0", "1 nat")
    ]
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["SFT", "SeqKD", "KD", "Off-policy KD", "On-policy KD", "SKD"]
    assert len({ax.get_xlim() for ax in (first, *others)}) == 1 and sum(first.get_xlim()) == pytest.approx(0)


def test_marks_are_filled_where_a_difference_is_significant():
    lines = [("kd", 0.3, 0.2, 0.4, 0.01), ("onpolicy", 0.1, -0.1, 0.3, 0.4)]
    table = pd.DataFrame(lines, columns=["against", "mean", "low", "high", "p_holm"])
    _, ax = plt.subplots()
    drawing.differences(table, ax, ["kd", "skd", "onpolicy"])
    marks = {line.get_ydata()[0]: line for line in ax.lines if line.get_marker() not in ("None", "")}
    assert marks[0].get_markerfacecolor() == look("kd").colour and marks[2].get_markerfacecolor() == "white"
    assert 1 not in marks  # a method that the table lacks


def test_leads_are_paired_by_seed(results):
    first = figures.lead(results)
    kd = first.figure.axes[[ax.get_title() for ax in first.figure.axes].index("KD")]
    assert kd.lines[0].get_ydata().tolist() == pytest.approx([0, 0.075, 0.15], abs=0.003)
    assert len(first.figure.axes) == 3 * 5  # word problems, and dialogues with two floors


def test_a_study_stands_beside_the_grid(results):
    left, right = figures.figure_3(results).figure.axes
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["forward KL", "reverse KL"]
    kd, skd = right.lines[1].get_ydata(), right.lines[4].get_ydata()  # dots, means and the line at zero, for each method
    assert kd.tolist() == pytest.approx([0.05, 0.05], abs=0.003) and skd.tolist() == pytest.approx([-0.05, -0.05], abs=0.003)
    assert [ax.get_title() for ax in figures.initial_students(results).figure.axes[:2]] == [
        "after 30 steps of SFT",
        "after 140 steps of SFT",
    ]


def test_curves_show_means_and_intervals_over_seeds():
    rows = [("kd", seed, step, step / 100 + seed / 10) for seed in range(3) for step in (0, 50, 100)]
    table = pd.DataFrame(rows, columns=["method", "seed", "step", "value"])
    _, ax = plt.subplots()
    drawing.over_training(pd.concat([table, table.assign(method="adaswitch")]), ax, "value")
    assert ax.get_legend_handles_labels()[1] == ["KD", "AdaSwitch"]
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([0.1, 0.6, 1.1])
    assert len(ax.collections) == 2
    drawing.over_training(table.assign(value=float("nan")), ax, "value")


def test_steps_are_averaged_into_points_at_their_middle_and_count_by_a_weight():
    table = pd.DataFrame({"method": "kd", "seed": 0, "step": range(1, 201), "value": [0.0] * 100 + [1.0] * 100})
    _, (left, right) = plt.subplots(1, 2)
    drawing.over_training(table, left, "value", width=100)
    assert left.lines[0].get_xdata().tolist() == [50, 150] and left.lines[0].get_ydata().tolist() == [0.0, 1.0]
    table = pd.DataFrame({"floor": [0.0, 0.0, 2.0, 2.0], "seed": 0, "step": [1, 2, 1, 2], "kl": [1.0, 4, 5, 7], "n": [3, 1, 1, 1]})
    drawing.over_training(table, right, "kl", by="floor", width=2, weight="n", legend=1)
    assert [line.get_ydata().tolist() for line in right.lines] == [[1.75], [6.0]]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["0.0", "2.0"]


def test_divergence_is_counted_from_the_switch():
    trace = {"step": 0, "seed": 0, "example": 0, "pos": range(6), "divergence": [0.1, 0.2, 0.3, 4.0, 1.0, 1.0], "switch_index": 3}
    _, (ax, few, many) = plt.subplots(1, 3)
    drawing.around_the_switch(pd.DataFrame(trace), ax, reach=2, least=1)
    assert ax.lines[0].get_xdata().tolist() == [-2, -1, 0, 1, 2] and ax.lines[0].get_ydata()[2] == 4.0
    drawing.around_the_switch(pd.DataFrame(trace), few, least=2)
    assert len(few.lines) == 1 and few.get_legend() is None  # but for the mark at zero
    drawing.around_the_switch(pd.concat([pd.DataFrame(trace | {"step": step}) for step in range(0, 55, 5)]), many, least=1)
    shown = [text.get_text().split(" ")[0] for text in many.get_legend().get_texts()]
    assert (shown[0], shown[-1], len(shown)) == ("0", "50", 4)


def test_single_students_and_seeds_are_lines():
    _, (left, right) = plt.subplots(1, 2)
    table = pd.DataFrame({"method": "kd", "seed": [1, 0, 0, 1], "step": [10, 10, 0, 0], "value": [0.4, 0.3, 0.1, 0.2]})
    drawing.each_student(table, left)
    assert [line.get_ydata().tolist() for line in left.lines[:2]] == [[0.1, 0.3], [0.2, 0.4]]
    drawing.each_seed(pd.DataFrame({"method": ["kd", "kd", "sft"], "seed": [0, 1, 0], "value": [0.2, 0.4, 0.1]}), right)
    one, other, *means = [line.get_ydata() for line in right.lines]
    assert list(one) == [0.1, 0.2] and pd.isna(other[0]) and other[1] == 0.4
    assert [mean[0] for mean in means] == pytest.approx([0.1, 0.3])
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["SFT", "KD"]


def test_cells_of_a_heatmap_are_means_and_some_are_empty():
    table = pd.DataFrame({"K": [1, 3, 3, 3], "L": [4, 4, 8, 8], "value": [0.1, 0.2, 0.3, 0.5]})
    _, ax = plt.subplots()
    drawing.heatmap(table, ax, "L", "K", "value")
    cells = {text.get_position(): text.get_text() for text in ax.texts}
    assert cells == {(0.5, 0.5): "0.100", (0.5, 1.5): "0.200", (1.5, 1.5): "0.400"} and not ax.yaxis_inverted()
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1", "3"]


def test_cost_growth_has_a_panel_an_axis():
    axes = ("max_new_tokens", "batch", "vocab")
    rows = [(axis, value, what, value / 100) for axis in axes for value in (8, 64) for what in ("adaswitch", "on-policy")]
    first = figures.cost_growth(pd.DataFrame(rows, columns=["axis", "value", "what", "seconds"]))
    assert [len(ax.lines) for ax in first.figure.axes] == [2, 2, 2]


def test_figures_are_the_same_bytes_on_a_second_draw(traces, tmp_path):
    drawn = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        figures.save(figures.figure_1(traces), folder)
        figures.save(figures.figure_2(traces["AdaSwitch"]), folder)
        drawn.append({file.name: file.read_bytes() for file in sorted(folder.iterdir())})
    assert list(drawn[0]) == ["figure_1.pdf", "figure_1.png", "figure_2.pdf", "figure_2.png"]
    assert drawn[0] == drawn[1]


def test_figure_2_marks_the_switch_and_draws_every_divergence(traces):
    trace = traces["AdaSwitch"]
    ax = figures.figure_2(trace)
    switch = int(trace.loc[trace["source"] == "teacher", "pos"].min())
    assert any(f"d_{{{switch}}}" in text.get_text() for text in ax.texts)
    assert ax.get_lines()[0].get_ydata().tolist() == trace["divergence"].tolist()


def test_figures_take_tokens_that_look_like_markup(traces):
    odd = traces["AdaSwitch"].assign(token="$x_{")
    figures.figure_2(odd).figure.canvas.draw()
    ax = figures.figure_1({"odd": odd}, prompt="What costs $5 or $6,\nif not $7? " * 40)
    ax.figure.canvas.draw()
    asked = [text.get_text() for text in ax.texts[:4]]
    assert asked[0].startswith(r"What costs \$5 or \$6, if not") and asked[3].endswith(" …") and "odd" in ax.texts[4].get_text()


def test_figures_of_one_kept_text(tmp_path):
    folder = Made(range(1)).grid(("dialogsum",), ("adaswitch",)).write(tmp_path)
    assert [text for text in texts(figures.real_rollout(folder, 0, 1)) if text.startswith("step")] == ["step 0", "step 20"]
    assert len(figures.real_divergence(folder, 0, 1).get_lines()[0].get_ydata()) == 6


def test_what_draws_figures_loads_neither_torch_nor_datasets_and_loads_fast():
    modules = ", ".join(f"adaswitch_lib.report.{name}" for name in "figures tables claims findings display explorer".split())
    code = "import sys, time; import matplotlib.pyplot, pandas, scipy.stats; theirs = time.process_time(); "
    code += f"import {modules}; ours = time.process_time() - theirs; "
    code += "print({'torch', 'transformers', 'datasets'} & set(sys.modules) or '-', ours / theirs)"
    loaded, ratio = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == "-"
    assert float(ratio) < 0.5


def test_every_method_and_task_has_a_look_of_its_own():
    looks = [look(name) for name in (*METHODS, *TASKS)]
    assert len({known.colour for known in looks}) == len({known.label for known in looks}) == len(looks)
    assert in_order(["kd", "micro_gsm", "teacher", "sft"]) == ["teacher", "sft", "kd", "micro_gsm"]
    assert with_floor("adaswitch", 1.0) == "AdaSwitch, floor = 1 nat" and with_floor("kd", float("nan")) == "KD"


def test_a_method_is_drawn_by_its_line_in_methods_alone(monkeypatch, tmp_path):
    monkeypatch.setitem(METHODS, "mine", Method("My KD", "OnPolicy", style=("#123456", "o")))
    monkeypatch.setitem(__import__("made_results").LEVEL, "mine", 0.5)
    ax = figures.differences(Made(range(3)).grid(("micro_gsm",), ("adaswitch", "mine")).write(tmp_path))
    assert ax.get_yticklabels()[0].get_text() == "My KD" and "#123456" in {line.get_color() for line in ax.lines}


def test_a_figure_is_one_function(tmp_path):
    @figures.figure
    def seeds(results):
        """How many seeds there are.

        More.
        """
        _, ax = plt.subplots()
        ax.plot([1, 2])
        return ax

    shown = figures.save(seeds(None), tmp_path)
    assert (tmp_path / "seeds.png").is_file() and 'alt="How many seeds there are."' in shown


def test_the_real_curves_stand_beside_those_of_the_reference_run(tmp_path):
    real = Made(range(2)).grid(("dialogsum",), ("adaswitch", "kd")).write(tmp_path / "real")
    everything(tmp_path / "micro", range(2))
    legend = figures.real_curves(real).figure.axes[1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [label(name) for name in ("micro_gsm", "micro_dialog", "dialogsum")]
