"""What teachers make of texts that others began, in small."""

import pytest

from adaswitch_lib.experiments import PRESETS, continuations
from adaswitch_lib.experiments.lane.grid import Cell


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    for name, value in {"ROWS": 6, "CUTS": (2, 4, 1000), "AT_ONCE": 4}.items():
        monkeypatch.setattr(continuations, name, value)


def test_a_pair_s_teacher_goes_on_from_three_kinds_of_text():
    found = continuations.of_pair(PRESETS["smoke"].config("micro_dialog", "adaswitch", 0))
    assert set(found.begun_by) == {"data", "student", "teacher"} and set(found.tokens) == {2, 4}
    assert (found[found.begun_by == "data"].groupby("tokens").example.nunique() == 6).all()
    assert found.score.between(0, 1).all() and found.entropy.between(0, 10).all() and set(found.world) == {"micro_dialog"}


def test_in_the_lane_a_good_teacher_goes_on_rightly_and_a_failing_one_does_not(tmp_path):
    scores = {}
    for gamma in (0.0, 1.0):
        found = continuations.of_lane(Cell(gamma, gusts=0.4, sft_steps=2), tmp_path)
        assert len(found) == 3 * 2 * 6
        scores[gamma] = found.groupby("begun_by").score.mean()
    assert scores[0.0].min() > 0.9 and scores[1.0].data > 0.9 > scores[1.0].student
