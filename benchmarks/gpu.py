"""Everything that is to be measured on a GPU, in one command that may be stopped at any time.

    PYTHONPATH=. python benchmarks/gpu.py [--out $OUT] [--seconds 540] [--before gpu.jsonl] [--stages right shapes growth others]
    PYTHONPATH=. python benchmarks/gpu.py --dry-run      # all of it in tiny shapes on a CPU

Needs torch, transformers, accelerate and pandas; TRL is timed where it and `datasets` are installed. Stages come in order of worth,
each in a process of its own, so that one that hangs or breaks the device takes no other with it:

    right    texts and losses on the device: float32 and bfloat16, static buffers against those that grow
    shapes   the paper's pairs with random weights: rollouts, transformers.generate, training steps
    growth   seconds against length, batch and vocabulary
    others   the same pairs by the naive loop, buffers that grow, TRL

Every number is written to gpu.jsonl when it is there. What stands in that file, or in that of an earlier call (--before), is not
measured again, unless it failed. gpu.csv and gpu.md are made of it after each stage.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

STAGES = {"right": 90, "shapes": 300, "growth": 90, "others": 540}
"""Seconds that a stage may take at most; what it leaves is for those behind it."""

GRACE = 20
"""Seconds that a part may run on behind the end of its stage, before it is killed."""

DEVICE_BROKE = 3
"""Exit status of a stage that wants to go on in a new process."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "results/bench/gpu")))
    parser.add_argument("--seconds", type=float, default=540, help="for everything")
    parser.add_argument("--before", type=Path, nargs="*", default=[], help="gpu.jsonl of earlier calls")
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=list(STAGES))
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.stage:
        sys.exit(run_stage(chosen.stage, chosen.out / "gpu.jsonl", time.monotonic() + chosen.seconds, chosen.dry_run))

    end = time.monotonic() + chosen.seconds
    chosen.out.mkdir(parents=True, exist_ok=True)
    file = chosen.out / "gpu.jsonl"
    known = [line for each in (*chosen.before, file) if each.is_file() for line in read(each) if "error" not in line]
    file.write_text("".join(json.dumps(line) + "\n" for line in known))
    for stage in chosen.stages:
        stage_end = end if chosen.dry_run else min(end, time.monotonic() + STAGES[stage])
        while (left := stage_end - time.monotonic()) > 0:
            command = [sys.executable, __file__, "--stage", stage, "--out", str(chosen.out), "--seconds", str(left)]
            try:
                status = subprocess.run(command + ["--dry-run"] * chosen.dry_run, timeout=left + GRACE).returncode
            except subprocess.TimeoutExpired:
                print(f"{stage}: killed, {GRACE} seconds behind its end", flush=True)
                break
            if status != DEVICE_BROKE:
                break
        summarise(file)
    summarise(file)
    print((chosen.out / "gpu.md").read_text())


def run_stage(stage: str, file: Path, end: float, dry_run: bool) -> int:
    """Measure the parts that have no line yet, until the time is over."""
    import torch
    import transformers
    from gpu_parts import DRY, Sizes, growth, others, shapes
    from gpu_right import right

    if dry_run:
        torch.set_num_threads(1)
    elif not torch.cuda.is_available():
        sys.exit("no GPU: --dry-run goes through all of it on a CPU.")
    transformers.logging.set_verbosity_error()
    sizes = DRY if dry_run else Sizes()
    card = "dry run on a CPU" if dry_run else torch.cuda.get_device_name()
    done = {(line["stage"], line["part"]) for line in read(file)}
    for part, call in {"right": right, "shapes": shapes, "growth": growth, "others": others}[stage](sizes):
        if (stage, part) in done:
            continue
        if time.monotonic() > end:
            break
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        line = {"stage": stage, "part": part, "card": card, "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}"} | versions
        try:
            line |= call()
        except Exception as error:
            traceback.print_exc()
            line["error"] = f"{type(error).__name__}: {error}"[:300]
        with file.open("a") as lines:
            lines.write(json.dumps(line) + "\n")
        print(stage, part, {key: f"{value:.3g}" for key, value in line.items() if isinstance(value, float)}, flush=True)
        gc.collect()  # a trainer's optimizer, and a pair that nobody needs any more
        torch.cuda.empty_cache()
        if "error" in line and not dry_run:
            return DEVICE_BROKE
    return 0


def read(file: Path) -> list[dict]:
    """Lines that are whole: the last may have been cut off."""
    lines = []
    for text in file.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def summarise(file: Path) -> None:
    """gpu.csv: all numbers. gpu.md: rollouts and steps of each pair side by side, and what else was measured."""
    lines = pd.DataFrame(read(file))
    if lines.empty:
        file.with_suffix(".md").write_text("Nothing measured yet.\n")
        return
    lines.to_csv(file.with_suffix(".csv"), index=False, float_format="%.5g")
    text = [
        "# On a GPU",
        "",
        "; ".join(sorted(set(lines.card + ", torch " + lines.torch + ", transformers " + lines.transformers))),
    ]
    timed = lines[lines.stage != "right"].dropna(subset="seconds").copy() if "seconds" in lines else lines[:0]
    if len(timed):
        timed[["pair", "of", "what", "by"]] = timed.part.str.split(" | ", regex=False, expand=True)
    for (pair, of), rows in timed.groupby(["pair", "of"], sort=False) if len(timed) else ():
        table = rows.pivot_table("seconds", "what", "by", sort=False)
        heading = {"rollout": "seconds of a rollout", "step": "seconds of a training step"}.get(of, f"seconds against {of}")
        if of == "rollout" and {"static", "transformers"} <= {*table}:
            table["transformers / static"] = table["transformers"] / table["static"]
        for other in ("kd", "onpolicy", "skd, 30%") if of == "step" and "static" in table else ():
            if other in table.index:
                table[f"static, of {other}"] = table["static"] / table.loc[other, "static"]
        if "peak_gb" in rows:
            table["peak GB, static"] = rows[rows.by == "static"].set_index("what").peak_gb
        text += ["", f"## {pair}: {heading}", "", as_table(table)]
    checks = lines[lines.stage == "right"].set_index("part")
    if len(checks):
        numbers = checks.select_dtypes("number").drop(columns=["seconds", "least", "most", "repeats", "peak_gb"], errors="ignore")
        text += ["", "## Right: shares that should be 1, and how far off numbers are", "", as_table(numbers)]
    failed = lines.dropna(subset="error") if "error" in lines else lines[:0]
    if len(failed):
        text += ["", "## Failed", "", *(f"- {row.stage} | {row.part}: {row.error}" for row in failed.itertuples())]
    file.with_suffix(".md").write_text("\n".join(text) + "\n")


def as_table(frame: pd.DataFrame) -> str:
    """A Markdown table; blank where nothing was measured."""
    head = [frame.index.name or "", *map(str, frame.columns)]
    rows = [[str(name), *("" if pd.isna(value) else f"{value:.3g}" for value in row)] for name, *row in frame.itertuples()]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    main()
