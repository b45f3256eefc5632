"""Processes that make runs: what becomes of the others when one dies, and of all when someone stops them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from helpers import obeys_interrupts

from adaswitch_lib.experiments import workers
from adaswitch_lib.experiments.failures import FullDisk
from adaswitch_lib.experiments.runs import fitting_jobs
from adaswitch_lib.experiments.workers import work_off

MAKE = "pretend_runs:make"


def begun(folder, what=""):
    return len(list(folder.glob(f"{what}*")))


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_worker_that_dies_takes_no_other_run_with_it_and_its_own_is_tried_once_more(tmp_path, caplog):
    kinds = ("fine", "die", "die once", "fail", "fine too")
    failed = work_off(MAKE, {what: (what, str(tmp_path)) for what in kinds}, jobs=2)
    assert set(failed) == {"die", "fail"} and "memory" in failed["die"]
    assert failed["fail"] == "ValueError: two lines"
    assert (begun(tmp_path, "die-"), begun(tmp_path, "die once-"), begun(tmp_path, "fine")) == (2, 2, 2)
    assert "die once" in caplog.text and "once more" in caplog.text


@pytest.mark.parametrize("kind", ["full", "full in a library", "full in silence"])
def test_a_full_disk_ends_all_since_it_would_end_each(kind, tmp_path):
    """A library may say anything, as torch's "unexpected pos"."""
    with pytest.raises(FullDisk, match="no space is left on the disk .*goes on"):
        work_off(MAKE, {"a": (kind, str(tmp_path)), "b": ("fine", str(tmp_path))}, jobs=1)
    assert begun(tmp_path, "fine") == 0


def test_without_workers_this_process_makes_all_and_a_failure_ends_none_but_its_run(tmp_path):
    failed = work_off(MAKE, {what: (what, str(tmp_path)) for what in ("fail", "fine")}, jobs=0)
    assert failed == {"fail": "ValueError: two lines"} and begun(tmp_path, f"fine-{os.getpid()}-") == 1
    with pytest.raises(FullDisk):
        work_off(MAKE, {what: (what, str(tmp_path)) for what in ("full", "fine too")}, jobs=0)
    assert begun(tmp_path, "fine too") == 0


@pytest.mark.parametrize(("gigabytes", "jobs"), [(0.5, 0), (1, 0), (2, 2), (64, 3)])
def test_there_are_no_more_workers_than_memory_allows(gigabytes, jobs, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 2**24, "SC_PAGE_SIZE": 2**12}[name])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("MEM_LIMIT", str(int(gigabytes * 2**30)))
    assert fitting_jobs() == jobs


@pytest.fixture
def another_thread():
    """Libraries start some, and a signal comes to whichever thread does not block it."""
    before, end = signal.signal(signal.SIGINT, signal.default_int_handler), threading.Event()
    threading.Thread(target=end.wait).start()
    yield
    end.set()
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("where", ["__init__", "end"])
def test_an_interrupt_while_workers_are_started_or_ended_leaves_none(where, tmp_path, monkeypatch, another_thread):
    step = getattr(workers._Worker, where)

    def interrupted(self, *row):
        step(self, *row)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

    monkeypatch.setattr(workers._Worker, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        work_off(MAKE, {what: (what, str(tmp_path)) for what in ("fine", "fine too")}, jobs=2)
    assert not [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


GRID = """
import sys
from adaswitch_lib import __main__
from adaswitch_lib.experiments.failures import FullDisk
from adaswitch_lib.experiments.workers import work_off

__main__._run = lambda arguments: work_off("pretend_runs:make", {i: ("sleep", sys.argv[1]) for i in range(8)}, 2)
if __name__ == "__main__":
    sys.exit(__main__.main(["reproduce"]))
"""


@pytest.mark.parametrize(
    ("signals", "code"),
    [((signal.SIGINT,), 130), ((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGTERM,), 143), ((signal.SIGKILL,), -9)],
)
def test_whoever_stops_a_grid_stops_all_of_it_at_once(signals, code, tmp_path):
    """Ctrl-C goes to all processes of the terminal, once or twice; the others to the first of them alone."""
    (tmp_path / "grid.py").write_text(GRID)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "grid.py"), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=obeys_interrupts,
    )
    wait_for(lambda: begun(tmp_path, "sleep") == 2)
    family = psutil.Process(process.pid).children(recursive=True)
    for signal_ in signals:
        (os.killpg if signal_ == signal.SIGINT else os.kill)(process.pid, signal_)
        time.sleep(0.05)
    _, error = process.communicate(timeout=10)
    assert process.returncode == code and not psutil.wait_procs(family, timeout=10)[1]
    assert begun(tmp_path, "sleep") == 2
    if code > 0:
        assert error.count("\n") == 1 and "the same command goes on" in error
