"""What the lane's results are said to show, on results made by hand."""

import matplotlib.pyplot as plt
import pytest
from made_lane import made_lane

from adaswitch_lib.experiments.lane import grid
from adaswitch_lib.report import claims, explorer, figures, findings, lane, tables


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made_lane(tmp_path_factory.mktemp("lane"))


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_only_complete_seeds_count(folder):
    assert sorted(lane.scores(folder).seed.unique()) == list(grid.SEEDS[:5])


def test_comparisons_are_adaswitch_minus_the_others_with_holm_in_a_cell(folder):
    found = lane.comparisons(lane.scores(folder))
    assert len(found) == len(grid.CELLS) * 2 * 3 and (found.p_holm >= found.p).all()
    chart = found[(found.gusts == 0.05) & (found.sft_steps == 180) & (found.outcome == "log_kl")].set_index(["gamma", "against"])
    assert (chart.loc[0.3, "mean"] < -1).all() and (chart.loc[0.3, "p_holm"] < 0.01).all()
    assert chart.loc[(0.0, "onpolicy"), "mean"] > 1 and abs(chart.loc[(0.0, "skd"), "mean"]) < 0.1


def test_a_method_wins_where_it_leads_all_others_significantly(folder):
    won = lane.winners(lane.scores(folder)).set_index("gamma")
    assert won.leader[0.3] == "adaswitch" and won.wins[0.3] and won.leader[0.0] == "onpolicy" and won.wins[0.0]
    assert not won.wins[0.6]


def test_the_interaction_is_a_slope_over_gamma(folder):
    slopes = lane.interaction(lane.scores(folder)).set_index("against")
    assert slopes.loc["onpolicy", "mean"] < 0 and slopes.loc["onpolicy", "n"] == 5
    later = lane.scores(folder)  # γ = 1 was planned later, and is none of it
    later.loc[(later.gamma == 1) & (later.method == "adaswitch"), "log_kl"] = 9.0
    assert lane.interaction(later).set_index("against").equals(slopes)


def test_the_paper_s_claims_are_judged_at_each_gamma(folder):
    found = claims.lane_table(folder).set_index(["claim", "task", "comparison"])
    log_kl = "log KL on own text, {} − AdaSwitch".format
    assert len(found) == 5 * 4 and (found.verdict.xs("γ = 0.3", level="task") == "holds").all()
    line = found.loc[("C1", "γ = 0", log_kl("On-policy KD"))]
    assert line["verdict"] == "fails" and line["mean"] < -1 and line.n == 5
    assert found.verdict[("Q", "γ = 0.6", log_kl("Off-policy KD"))] == "holds"


@pytest.mark.parametrize("seeds", [0, 1, 5])
def test_the_figure_is_drawn_of_what_there_is(seeds, tmp_path):
    ax = figures.who_wins(made_lane(tmp_path / "made", seeds))
    shown = figures.show(ax)
    assert "γ" in shown and ax.figure.name == "who_wins"
    assert len(ax.patches) == (2 if seeds == 5 else 0)


def test_the_advice_is_compared_on_texts_that_all_three_began(folder):
    found = lane.advice(folder).set_index(["world", "tokens"])
    assert found.n.unstack().drop_duplicates().values.tolist() == [[10, 9]] and (found.student - found.data == 1).all()
    assert found.kept["dialogsum", 16] == pytest.approx(0.5) and found.kept["lane 0.6", 8] == pytest.approx(0.7)
    assert "keeps 50 % [50, 50]" in findings.the_advice(folder) and "70 % at γ = 0.6" in findings.the_advice(folder)
    assert "γ = 1." in findings.the_advice(folder)  # the one that keeps as much
    assert len(figures.advice(folder).lines) == 3


def test_advice_that_nobody_measured(tmp_path):
    assert "adaswitch continuations" in findings.the_advice(tmp_path) and figures.show(figures.advice(tmp_path))


@pytest.mark.parametrize("seeds", [0, 1, 5])
def test_tables_and_words_are_made_of_what_there_is(seeds, tmp_path):
    made = made_lane(tmp_path / "made", seeds)
    assert len(tables.lane_scores(made)) == (len(grid.WRITERS) if seeds else 0)
    found = tables.lane_comparisons(made).set_index("world")
    assert len(found) == (len(grid.CELLS) if seeds else 0)
    assert not seeds or ("*" in found.loc["γ = 0.3", "minus SKD"]) == (seeds == 5)
    assert findings.the_lane(made).count("nobody") == {0: 0, 1: 5, 5: 3}[seeds]
    assert "AdaSwitch" in explorer.compare(lane.texts(made))
