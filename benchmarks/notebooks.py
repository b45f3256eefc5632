"""Memory of each notebook with the kernel's children, and seconds to its first figure, into results/bench/notebooks.csv.

    python benchmarks/notebooks.py [NOTEBOOK ...] [--limit GIGABYTES] [--tree FOLDER] [--out FOLDER]

With a limit, all of it runs in a memory control group (version 1, as root) of that size, and is told so as by a hub: a notebook
that needs more ends with its kernel. `--tree` measures another checkout by the same environment. Notebook 02 trains the smoke
preset. Where some are named, no table is written unless `--out` says where.
"""

import argparse
import os
import threading
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pandas as pd
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from adaswitch_lib.experiments.table_files import write_table

GROUPS = Path("/sys/fs/cgroup/memory")
PARAMETERS = {"02_train_students": {"preset": "smoke"}}


@contextmanager
def limited(gigabytes: float):
    """This process, and so its kernels, in a group with so much memory, page cache included."""
    group, limit, process = GROUPS / f"hub_{os.getpid()}", str(int(gigabytes * 2**30)), str(os.getpid())
    os.environ["MEM_LIMIT"] = limit
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(limit)
    (group / "cgroup.procs").write_text(process)
    try:
        yield
    finally:
        (GROUPS / "cgroup.procs").write_text(process)
        group.rmdir()


def megabytes(pid: int) -> float:
    """What a process and its children hold, shared pages counted once each time."""
    try:
        process = psutil.Process(pid)
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def is_figure(output: dict) -> bool:
    """A picture, or an explorer."""
    data = output.get("data", {})
    return "image/png" in data or "<img" in data.get("text/html", "") or "adaswitch" in data.get("text/html", "")


def measure(file: Path) -> dict:
    """Run one notebook: seconds, peak megabytes, and the error it ended with."""
    book = parameterize_notebook(load_notebook_node(str(file)), PARAMETERS.get(file.stem, {}), report_mode=False)
    begun, found, peak, over = time.perf_counter(), {"first_figure": float("nan"), "error": ""}, [0.0], threading.Event()
    client = NotebookClient(book, timeout=7200, resources={"metadata": {"path": str(file.parents[1])}}, kernel_name="python3")

    def executed(cell, **_):
        if found["first_figure"] != found["first_figure"] and any(map(is_figure, cell.get("outputs", []))):
            found["first_figure"] = time.perf_counter() - begun

    def watch():
        while not over.wait(0.05):
            peak[0] = max(peak[0], megabytes(client.km.provisioner.pid) if client.km and client.km.has_kernel else 0.0)

    client.on_cell_executed = executed
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as error:
        found["error"] = str(error).strip().splitlines()[-1]
    finally:
        over.set()
        watcher.join()
    return {"notebook": file.stem, "seconds": time.perf_counter() - begun, "megabytes": peak[0], **found}


def main() -> None:
    """Measure the notebooks, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", help="as in 00 05; all where none is named")
    parser.add_argument("--limit", type=float)
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--out", type=Path, help="for notebooks.csv (default: results/bench, where all are measured)")
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = str(given.tree.resolve())
    files = sorted((given.tree.resolve() / "notebooks").glob("*.ipynb"))
    rows = []
    with limited(given.limit) if given.limit else nullcontext():
        for file in [file for file in files if not given.notebooks or file.stem[:2] in given.notebooks]:
            rows.append(measure(file))
            line = "{notebook}: {first_figure:.1f} s to a figure, {seconds:.1f} s, {megabytes:.0f} MB {error}"
            print(line.format(**rows[-1]), flush=True)
    if out := given.out or (None if given.notebooks else Path("results/bench")):
        write_table(pd.DataFrame(rows).round(1), out / "notebooks.csv", limit_gb=given.limit or "none")


if __name__ == "__main__":
    main()
