"""The lane: what is right in it, how advice fails, and runs that resume."""

import pandas as pd
import pytest
import torch

from adaswitch_lib.experiments.lane import grid, runs, students, teachers, world
from adaswitch_lib.experiments.lane.world import LENGTH, PLACES, VOCAB


def a_text(*places, target=5, start=5):
    """A prompt whose path stays where it is, and a text that begins with these places and then stays on the path."""
    path = torch.full((1, LENGTH), target)
    text = torch.tensor([[*places, *[target] * (LENGTH - len(places))]])
    return torch.cat([path, torch.tensor([[start]])], dim=1), text


def test_paths_are_walks_within_the_lane():
    prompts = world.paths(200, seed=1)
    walk = torch.cat([prompts[:, LENGTH:], prompts[:, :LENGTH]], dim=1)
    assert walk.min() == 0 and walk.max() == PLACES - 1 and walk.diff(dim=1).abs().max() == 1
    assert torch.equal(prompts, world.paths(200, seed=1)) and not torch.equal(prompts, world.paths(200, seed=2))
    assert torch.equal(world.right_places(prompts, world.on_the_path(prompts)), world.on_the_path(prompts))


def test_a_far_slip_takes_steps_to_mend():
    prompts, text = a_text(5, 12, 10, 8, 6)
    assert world.right_places(prompts, text)[0, :7].tolist() == [5, 5, 10, 8, 6, 5, 5]
    assert world.off_the_path(prompts, text)[0, :7].tolist() == [0, 0, 7, 5, 3, 1, 0]
    assert world.slips(prompts, text)[0, :12].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]


def test_advice_fails_with_the_slips_after_the_first():
    right, k = torch.tensor([3, 3, 3]), torch.tensor([0, 1, 3])
    known = world.advice(right, k, gamma=0.5)
    assert known.sum(-1).tolist() == pytest.approx([1, 1, 1]) and known.shape == (3, VOCAB)
    assert known[:, 3].tolist() == pytest.approx([0.998, 0.998, 0.25 * 0.998 + 0.75 / 16], abs=1e-4)
    assert torch.equal(world.advice(right, k, gamma=0.0), world.sharp(right))
    assert (world.sharp(right)[0].argsort(descending=True)[:3].sort().values == torch.tensor([2, 3, 4])).all()


def test_writers_are_rattled_at_their_rates_and_mean_what_the_rule_says():
    prompts = world.paths(4000, seed=3)
    text, meant = teachers.rattled_texts(prompts, gamma=0.3, seed=4)
    differ = (text != meant).float().view(-1, len(teachers.NOISE), LENGTH).mean((0, 2))
    assert differ.tolist() == pytest.approx([15 / 16 * share for share in teachers.NOISE], abs=0.01)
    right, k = world.right_places(prompts, text), world.slips(prompts, text)
    for slips in (0, 1, 2, 4):
        expected = world.advice(right[k == slips][:1], torch.tensor([slips]), 0.3)[0, right[k == slips][0]]
        assert float((meant == right)[k == slips].float().mean()) == pytest.approx(float(expected), abs=0.02)


def test_one_who_always_knows_the_right_place_has_the_best_scores(monkeypatch):
    def knows(model, prompts, text):
        return world.sharp(world.right_places(prompts, text)).log()

    monkeypatch.setattr(students, "scores", knows)
    found = students.evaluate(students.new_model(1, 0), "test", seed=0, gusts=0.2)
    assert found == {"kl": pytest.approx(0, abs=1e-6), "exact": 1, "before_slip": 1, "steers": 1}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Two steps of everything."""
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    for module, settings in {teachers: {"STEPS": 2, "ROWS": 4}, students: {"STEPS": 2, "ROWS": 4, "TEST_ROWS": 8}}.items():
        for name, value in settings.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(runs, "SHIPPED", tmp_path)
    for module in (grid, runs):
        monkeypatch.setattr(module, "SEEDS", (100,))
    monkeypatch.setattr(grid, "CELLS", (grid.CHART[2], grid.CALM))
    monkeypatch.setattr(grid, "CHART", (grid.CHART[2],))
    monkeypatch.setattr(grid, "TOP_KS", (7, 9))
    return tmp_path / "results" / "lane"


def test_the_grid_resumes_and_a_run_is_the_same_again(small):
    runs.run_all([100])
    made = grid.finished(small)
    assert len(made) == 2 + 7 + 5 and made.run.is_unique
    assert made[(made.method == "skd") & (made.seed == 100)].top_k.tolist() == 2 * [grid.best_top_k(made)[0.3]]
    assert {"commit", "seconds", "threads", "kl", "validation_kl", "steers", "text_right"} < set(made)
    texts = pd.read_parquet(small / "texts.parquet")
    assert texts.groupby(["method", "step", "example"]).size().eq(LENGTH).all() and set(texts.method) == set(grid.WRITERS)
    before = (small / "runs.csv").stat().st_mtime_ns
    runs.run_all([100])
    assert (small / "runs.csv").stat().st_mtime_ns == before
    (small / "runs.csv").unlink()
    students.initial_weights.cache_clear()
    runs.make(grid.LaneRun(grid.CALM, "adaswitch", 100), small)
    again = grid.finished(small).drop(columns="seconds")
    first = made[made.run == again.run[0]].drop(columns="seconds").reset_index(drop=True)
    pd.testing.assert_frame_equal(first, again, check_dtype=False)


def test_what_is_planned():
    plan = grid.planned(100, dict.fromkeys(grid.GAMMAS, 9))
    assert len({run.id for run in plan}) == len(plan)
    assert not [run for run in plan if run.cell == grid.CALM and run.method == "dart"]
    assert all((run.top_k > 0) == (run.method == "skd") for run in plan)
