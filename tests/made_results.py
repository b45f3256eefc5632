"""Results made up by hand, in the form in which runs leave them, so that figures, tables and verdicts can be checked."""

import pandas as pd

from adaswitch_lib.experiments import records
from adaswitch_lib.experiments.table_files import write_table
from adaswitch_lib.experiments.tasks import TASKS

LEVEL = {"sft": 0.3, "seqkd": 0.4, "kd": 0.5, "offpolicy": 0.45, "onpolicy": 0.6, "skd": 0.7, "adaswitch": 0.65}
LEVEL |= {"random": 0.55, "stop": 0.1, "fixed": 0.5}
"""Scores at the end on word problems; on dialogues they are 0.2 higher."""

FLOORS = {"micro_gsm": 0.0, "micro_dialog": 1.0}
STEPS = (0, 10, 20)


class Made:
    """Rows of runs; `write` leaves them in a folder."""

    def __init__(self, seeds):
        self.seeds, self.runs, self.metrics, self.switches, self.traces = seeds, [], [], [], []

    def run(self, task, method, seed, variant="", gain=0.0, **settings):
        """One run: its score rises from 0.05 to its level and `gain`; its switch rate falls."""
        grid = f"{task}-{method}-s{seed}-00000000"
        run = grid if not variant else f"{task}-{method}-{variant}-s{seed}-00000000"
        easier = 0.2 * (task == "micro_dialog")
        fixed = dict.fromkeys(records.SAME_IN_A_GRID, 1) | {"initial.steps": 140, "num_prompts": 256, "learning_rate": 0.001}
        fixed |= {"rule.multiplier": 3.0, "rule.window": 8, "rule.min_history": 4, "rule.floor": FLOORS.get(task, 0.0)}
        fixed |= {
            "run": run,
            "task": task,
            "method": method,
            "label": method,
            "seed": seed,
            "variant": variant,
            "paired_with": grid,
        }
        fixed |= {"loss": "forward_kl", "collapsed": False, "peak_memory_mb": 900.0, "train_seconds": 9.0}
        self.runs.append(fixed | settings)
        noise = 0.001 * (seed * len(method + task) % 5)
        name = TASKS[task].metric
        for step in STEPS:
            score = 0.05 + (LEVEL[method] + easier + gain - 0.05) * step / STEPS[-1] + noise
            rows = {name: score, f"written_{name}": score / 2, "kl_own": 1 - score, "kl_data": 0.9 - score}
            rows |= {"mistaken": 0.5, "caught": 0.4, "switch_before": 0.2, "switch_at": 0.5, "switch_after": 0.3}
            self._measure(run, task, "validation", step, rows)
        self._measure(run, task, "test", STEPS[-1], {name: score})
        if task == "micro_gsm":
            self._measure(run, "micro_gsm_plus", "test", STEPS[-1], {"accuracy": 0.01 + noise})
        for step in range(1, STEPS[-1] + 1):
            rate = (1 - step / 40) * (1 + 0.02 * seed) - easier - 0.1 * (settings.get("rule.floor", 0) > 0)
            rows = {"switch_rate": rate, "switch_divergence": 2 + rate, "switch_position": 6.0 + seed, "teacher_share": rate / 2}
            times = {"loss": 0.1, "length": 14.0, "step_seconds": 0.1 + LEVEL[method], "write_seconds": 0.05}
            self.switches.append({"run": run, "step": step} | rows | times)
        for step in STEPS:
            for example in range(10):
                for pos in range(6):
                    token = {
                        "run": run,
                        "step": step,
                        "example": example,
                        "pos": pos,
                        "token": "a ",
                        "token_id": 5,
                        "switch_index": 3,
                    }
                    token |= {"source": "student" if pos < 3 else "teacher", "divergence": 0.1 + 3 * (pos == 3), "threshold": 1.0}
                    self.traces.append(token)

    def _measure(self, run, task, split, step, values):
        for metric, value in values.items():
            self.metrics.append({"run": run, "step": step, "task": task, "split": split, "metric": metric, "value": value})

    def grid(self, tasks=("micro_gsm", "micro_dialog"), methods=tuple(LEVEL)):
        for task in tasks:
            for method in methods:
                for seed in self.seeds:
                    self.run(task, method, seed)
        return self

    def study(self, variant, methods, task="micro_dialog", gain=0.0, **settings):
        for method in methods:
            for seed in self.seeds:
                self.run(task, method, seed, variant, gain, **settings)
        return self

    def write(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        tables = {"metrics": self.metrics, "switches": self.switches, "traces": self.traces, "runs": self.runs}
        for name, rows in tables.items():
            write_table(pd.DataFrame(rows), folder / records.TABLES[name])
        return folder


def everything(folder, seeds=range(4)):
    """A grid and every study of the reference run, with reference scores and what permuted positions catch."""
    made = Made(seeds).grid()
    made.study("floors.0.0", ["adaswitch"], gain=0.02, **{"rule.floor": 0.0}).study(
        "floors.2.0", ["adaswitch"], **{"rule.floor": 2.0}
    )
    made.study("controls.0.0", ["random", "stop"], **{"rule.floor": 0.0})
    made.study("rules.K1.5-L4", ["adaswitch"], **{"rule.floor": 0.0, "rule.multiplier": 1.5, "rule.window": 4})
    made.study("rules.K6-L8", ["adaswitch"], **{"rule.floor": 0.0, "rule.multiplier": 6.0})
    made.study("divergences.reverse_kl", ["onpolicy", "skd", "adaswitch"], gain=-0.1, loss="reverse_kl", **{"rule.floor": 4.0})
    made.study("prompts.64", ["kd", "onpolicy", "skd", "adaswitch"], gain=-0.2, num_prompts=64)
    made.study("initial_students.30", ["kd", "onpolicy", "adaswitch"], gain=-0.3, **{"initial.steps": 30})
    made.write(folder)
    lines = [("teacher", -1, 0.99), *(("initial", seed, 0.05 + seed / 100) for seed in seeds)]
    references = [
        {"method": method, "seed": seed, "task": task, "example": 0, "answer": "a", TASKS[task].metric: score}
        for method, seed, score in lines
        for task in ("micro_gsm", "micro_gsm_plus", "micro_dialog")
    ]
    write_table(pd.DataFrame(references), folder / records.REFERENCE_SCORES)
    shares = {"mistaken": 0.5, "caught": 0.5, "switch_at": 0.25, "switch_after": 0.5}
    shares |= {f"permuted_{name}": share / 5 for name, share in shares.items()}
    chance = [
        {"task": task, "seed": seed, "step": step, "switching": 4, "wrong": 8} | shares
        for task in FLOORS
        for seed in seeds
        for step in STEPS
    ]
    write_table(pd.DataFrame(chance), folder / "chance.csv")
    return folder
