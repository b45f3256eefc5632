"""Runs of the lane made up by hand: AdaSwitch wins at γ = 0.3, on-policy KD at 0, nobody elsewhere."""

import pandas as pd

from adaswitch_lib.experiments.lane import grid
from adaswitch_lib.experiments.table_files import write_table

KL = {"offpolicy": 0.3, "onpolicy": 0.2, "skd": 0.2, "adaswitch": 0.2, "random": 0.2, "floor": 0.2, "dart": 0.1}


def made_lane(folder, seeds=5):
    """Results of so many complete seeds, and half of one more."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in grid.SEEDS[: seeds + 1]:
        for i, run in enumerate(grid.planned(seed, dict.fromkeys(grid.GAMMAS, 9))):
            if seed == grid.SEEDS[seeds] and i > 9:
                break
            cell = run.cell
            kl = KL[run.method] * (1 + 0.01 * ((7 * seed + 3 * i) % 5))
            if (run.method, cell.gamma) in {("onpolicy", 0.0), ("adaswitch", 0.3)}:
                kl /= 4
            row = {"run": run.id, "gamma": cell.gamma, "gusts": cell.gusts, "sft_steps": cell.sft_steps, "method": run.method}
            row |= {"seed": seed, "top_k": run.top_k, "kl": kl, "exact": 1 - kl, "steers": 1 - kl, "before_slip": 1 - kl}
            row |= {"text_right": 0.9, "advice_right": 0.8, "validation_kl": kl, "seconds": 20.0, "switch_rate": 0.5}
            rows.append(row | {"teacher_share": 0.5, "switch_position": 9.0})
    write_table(pd.DataFrame(rows), folder / "runs.csv")
    slips = [(gamma, k, (1 - gamma) ** k) for gamma in grid.GAMMAS for k in range(4)]
    known = pd.DataFrame(slips, columns=["gamma", "slips", "rule"])
    write_table(known.assign(network=0.9 * known.rule, tokens=9, kl=0.01), folder / "teachers.csv")
    texts = [
        {"example": 0, "pos": pos, "token": "3", "source": "student" if pos < 2 else "teacher", "divergence": 0.5, "threshold": 1.0}
        | {"token_id": 3, "method": method, "step": step, "prompt": "From 3 along 3 3 3 3"}
        for method in grid.WRITERS
        for step in (0, 150)
        for pos in range(4)
    ]
    write_table(pd.DataFrame(texts), folder / "texts.parquet")
    write_table(pd.DataFrame(continuations()), folder / "continuations.parquet")
    return folder


def continuations():
    """The real teacher keeps half of its score on the student's text, those of the lane all at γ = 0 and less at others. One text
    of the student is too short for 16 tokens."""
    kept = {"dialogsum": 0.5} | {f"lane {gamma:g}": 1 - gamma / 2 for gamma in grid.GAMMAS}
    return [
        {"world": world, "begun_by": begun_by, "tokens": tokens, "example": example, "entropy": 1.0 + (begun_by == "student")}
        | {"score": (0.4 + 0.1 * (example % 3)) * (share if begun_by == "student" else 1)}
        for world, share in kept.items()
        for begun_by in ("data", "student", "teacher")
        for tokens in (8, 16)
        for example in range(10)
        if (begun_by, tokens, example) != ("student", 16, 9)
    ]
