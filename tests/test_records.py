"""Tables on disk: put together, collected, and read only as they were written."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adaswitch_lib.experiments import records, sealed, table_files
from adaswitch_lib.experiments.presets import PRESETS
from adaswitch_lib.experiments.table_files import DamagedFile, read_table_file, write_table

KD, SFT, STUDY = "micro_gsm-kd-s0-aaaaaaaa", "micro_gsm-sft-s0-aaaaaaaa", "micro_gsm-kd-floors.0.0-s0-aaaaaaaa"


def settings(method="kd", **changes):
    config = PRESETS["smoke"].config("micro_gsm", method, 0)
    return config.columns() | {"collapsed": False, "commit": "5e1234567890", "paired_with": KD} | changes


def tables(value=0.5):
    return {
        "metrics": pd.DataFrame({"step": [0, 3], "task": "micro_gsm_plus", "split": "test", "metric": "accuracy", "value": value}),
        "switches": pd.DataFrame({"step": [1, 2, 3], "loss": 1.0, "switch_rate": 1 / 3}),
        "items": pd.DataFrame({"example": [0, 1], "task": "micro_gsm", "accuracy": [0.0, 1.0], "answer": "four"}),
        "traces": pd.DataFrame({"step": [0, 0], "pos": [0, 1], "token": ["a", "b"], "divergence": np.float32([0.1, 0.2])}),
    }


def everything(results):
    read = {name: records.read_table(results, name) for name in records.TABLES}
    return read | {"finished": records.finished(results), "references": records.reference_items(results)}


def same(one, other):
    return all(one[name].equals(other[name]) if isinstance(one[name], pd.DataFrame) else one[name] == other[name] for name in one)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Two runs that were collected, and one that was not."""
    folder = tmp_path_factory.mktemp("made") / "results" / "smoke"
    records.add_run(folder, KD, settings(), tables())
    records.add_run(folder, SFT, settings("sft", paired_with=SFT), tables(0.25))
    assert records.collect(folder) == 2
    records.add_run(folder, STUDY, settings(variant="floors.0.0") | {"rule.floor": 0.0}, tables(0.75))
    items = pd.DataFrame(
        {"method": ["teacher", "initial"], "seed": [-1, 0], "task": "micro_gsm", "example": 0, "accuracy": [1.0, 0.0]}
    )
    write_table(items, folder / records.REFERENCE_SCORES, preset="smoke")
    return folder


@pytest.fixture
def results(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "results" / "smoke"))


def test_tables_are_the_same_whether_runs_are_collected_or_not(results):
    before = everything(results)
    assert before["finished"] == {KD, SFT, STUDY} and before["runs"].run.tolist() == sorted((KD, SFT, STUDY))
    assert (results / "runs" / STUDY).is_dir()
    assert records.collect(results) == 1 and records.collect(results) == 0
    assert same(before, everything(results)) and not list((results / "runs").iterdir())
    assert before["runs"].commit.eq("5e1234567890").all() and before["runs"].variant.tolist() == ["floors.0.0", "", ""]
    assert before["switches"].switch_rate.eq(0.33333).all()  # five digits


def test_the_end_of_a_run_costs_the_same_however_many_are_kept(results, monkeypatch):
    """It reads and writes nothing of theirs."""
    kept = {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.is_file()}
    monkeypatch.setattr(table_files, "read_bytes", None)
    records.add_run(results, "micro_gsm-skd-s0-aaaaaaaa", settings("skd"), tables())
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_run_replaces_an_older_one_of_the_same_name(results):
    assert records.is_finished(results, KD) and records.is_finished(results, STUDY)
    newer = [name[:-8] + "bbbbbbbb" for name in (KD, STUDY)]
    for name in newer:
        assert not records.is_finished(results, name)
        records.add_run(results, name, settings(), tables(0.9))
    for _ in "uncollected", "collected":
        assert records.finished(results) == {SFT, *newer}
        assert all(set(records.read_table(results, name).run) == {SFT, *newer} for name in records.TABLES)
        records.collect(results)


@pytest.mark.parametrize("killed_at", range(1, 7))
def test_who_is_killed_while_he_collects_leaves_what_another_can_go_on_with(killed_at, results, monkeypatch):
    """At each table, and at the removal of the folders."""
    before, calls, write, discard = everything(results), [], records.write_table, records._discard

    def until(step):
        def stopped(*row, **named):
            calls.append(1)
            if len(calls) == killed_at:
                raise KeyboardInterrupt
            return step(*row, **named)

        return stopped

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(records, "write_table", until(write))
        patch.setattr(records, "_discard", until(discard) if killed_at == 6 else discard)
        records.collect(results)
    records.collect(results)
    assert same(before, everything(results))


def test_a_table_that_was_being_replaced_when_the_process_was_killed_is_whole(tmp_path, monkeypatch):
    """Killed between provenance and table: the new one lies beside, and is put in its place."""
    old, new = pd.DataFrame({"x": [1]}), pd.DataFrame({"x": [2]})
    write_table(old, tmp_path / "t.csv")
    replace = os.replace
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        done = []
        patch.setattr(
            os, "replace", lambda *names: replace(*names) if not done and not done.append(1) else exec("raise KeyboardInterrupt")
        )
        write_table(new, tmp_path / "t.csv")
    assert read_table_file(tmp_path / "t.csv").equals(new)
    assert {file.name for file in tmp_path.iterdir()} == {"t.csv", "t.csv.provenance.json"}


def test_a_disk_that_is_full_changes_no_table(results, monkeypatch):
    before = everything(results)

    def full(*content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(Path, "write_bytes", full)
        records.add_run(results, "micro_gsm-skd-s0-aaaaaaaa", settings("skd"), tables())
    assert same(before, everything(results))


def garble(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


CORRUPTIONS = {
    "half": lambda content: content[: len(content) // 2],
    "the last byte lost": lambda content: content[:-1],
    "empty": lambda content: b"",
    "garbled": garble,
    "header twice": lambda content: content[: content.find(b"\n") + 1 or 4] + content,
    "everything twice": lambda content: content + content,
    "the last line twice": lambda content: content + content[content[:-1].rfind(b"\n") + 1 :],
    "conflict markers": lambda content: b"<<<<<<< ours\n" + content + b"=======\n" + content + b">>>>>>> theirs\n",
    "numbers to words": lambda content: content.replace(b"0", b"zero"),
    "a digit to another": lambda content: re.sub(rb"\d(?=\D*$)", lambda digit: b"%d" % (9 - int(digit[0])), content),
    "zeros": lambda content: bytes(len(content)),
    "gone": None,
}
FILES = [
    *(f"{records.TABLES[name]}" for name in records.TABLES),
    records.REFERENCE_SCORES,
    "runs.csv.provenance.json",
    *(f"runs/{STUDY}/{name}" for name in ("run.json", "metrics.parquet", "switches.parquet", "items.parquet", "sha256.json")),
]


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_harmless_or_named(name, kind, results):
    before, file = everything(results), results / name
    new = None if CORRUPTIONS[kind] is None else CORRUPTIONS[kind](file.read_bytes())
    assert new != file.read_bytes()
    file.unlink() if new is None else file.write_bytes(new)
    try:
        now = everything(results)
    except (DamagedFile, FileNotFoundError) as error:
        told = str(error)
        assert "\n" not in told and str(file.parent) in told and (file.name in told or STUDY in told)
        assert any(advice in told for advice in ("restore", "remove", "make it"))
        if name != records.REFERENCE_SCORES:  # which is not collected
            with pytest.raises(DamagedFile):
                records.collect(results)
    else:
        gone = kind == "gone" and name == records.REFERENCE_SCORES  # they are made again
        assert gone or same(before, now)


def test_tables_of_two_collections_are_not_mixed(results):
    old = {name: (results / name).read_bytes() for name in ("metrics.parquet", "metrics.parquet.provenance.json")}
    records.collect(results)
    for name, content in old.items():
        (results / name).write_bytes(content)
    with pytest.raises(DamagedFile, match=r"metrics\.parquet and .*runs\.csv were not written together"):
        records.read_table(results, "metrics")
    records.add_run(results, "micro_gsm-skd-s0-aaaaaaaa", settings("skd"), tables())
    with pytest.raises(DamagedFile, match="were not written together"):
        records.collect(results)


def test_results_of_an_earlier_layout_are_named(results):
    provenance = results / "runs.csv.provenance.json"
    told = json.loads(provenance.read_text())
    del told["sha256"]
    provenance.write_text(json.dumps(told))
    with pytest.raises(DamagedFile, match="earlier version of this project: remove"):
        records.finished(results)


def test_two_versions_of_a_run_and_copies_of_folders(results):
    shutil.copytree(results / "runs" / STUDY, results / "runs" / f"{STUDY} (copy)")
    assert records.finished(results) == {KD, SFT, STUDY}
    shutil.copytree(results / "runs" / STUDY, results / "runs" / f"{STUDY[:-8]}bbbbbbbb")
    with pytest.raises(DamagedFile, match="two versions of one run: remove the older"):
        records.finished(results)


def test_what_is_not_there_says_how_to_make_it(tmp_path, results):
    with pytest.raises(FileNotFoundError, match="run --preset quick"):
        records.read_table(tmp_path / "quick", "metrics")
    assert records.finished(tmp_path / "quick") == set() and records.reference_scores(tmp_path / "quick").empty
    records.add_run(tmp_path / "short", KD, settings(), tables() | {"items": pd.DataFrame()})
    records.collect(tmp_path / "short")
    with pytest.raises(FileNotFoundError, match=r"items\.parquet: its runs are kept without it"):
        records.read_table(tmp_path / "short", "items")


def test_tables_know_the_settings_of_their_runs(results):
    assert records.with_settings(results, "items").run.unique().tolist() == [KD, SFT]
    found = records.with_settings(results, "metrics").drop_duplicates("run")
    assert found[["task", "trained_on", "method", "label", "value"]].values.tolist() == [
        ["micro_gsm_plus", "micro_gsm", "kd", "KD", 0.5],
        ["micro_gsm_plus", "micro_gsm", "sft", "SFT", 0.25],
    ]


def test_a_study_stands_beside_the_runs_that_it_is_paired_with(results):
    found = records.with_settings(results, "metrics", "floors").drop_duplicates("run")
    assert found[["run", "rule.floor", "value"]].values.tolist() == [[STUDY, 0.0, 0.75], [KD, 1.0, 0.5]]
    assert records.with_settings(results, "metrics", "prompts").empty  # a study that nobody has run yet
    with pytest.raises(ValueError, match="no study 'floor' in .*: use one of .*floors"):
        records.with_settings(results, "metrics", "floor")
    records.add_run(results, "micro_gsm-kd-mine.7-s0-aaaaaaaa", settings(variant="mine.7"), tables())
    assert set(records.with_settings(results, "metrics", "mine").variant) == {"", "mine.7"}


def test_a_study_of_an_older_preset_is_left_out_and_one_with_seeds_of_its_own_is_not(results):
    records.add_run(results, STUDY, settings(variant="floors.0.0", paired_with="of yesterday"), tables())
    assert records.with_settings(results, "metrics", "floors").empty
    records.add_run(results, STUDY, settings(variant="floors.0.0", paired_with="of its own", seed=5), tables())
    assert set(records.with_settings(results, "metrics", "floors").run) == {STUDY}


@pytest.mark.parametrize(
    ("run", "changes", "message"),
    [
        ("micro_gsm-skd-s0-aaaaaaaa", {"method": "skd", "steps": 8}, "micro_gsm .* differ in steps: .*run --preset smoke"),
        ("micro_gsm-kd-s1-aaaaaaaa", {"seed": 1, "learning_rate": 8}, "'micro_gsm', 'kd'.* differ in learning_rate"),
        ("micro_gsm-kd-s1-aaaaaaaa", {"seed": 1, "policy.top_k": 8}, "'micro_gsm', 'kd'.* differ in policy.top_k"),
    ],
)
def test_runs_of_two_versions_of_a_preset_are_not_compared(run, changes, message, results):
    records.add_run(results, run, settings() | changes, tables())
    with pytest.raises(ValueError, match=message):
        records.with_settings(results, "metrics")


def test_a_table_that_did_not_change_keeps_the_provenance_of_who_made_it(tmp_path):
    frame = pd.DataFrame({"x": [1 / 3, float("nan")], "run": ["00123456", "5e12"]})
    for name in ("t.csv", "t.parquet"):
        write_table(frame, tmp_path / name, seed=3)
        first = (tmp_path / f"{name}.provenance.json").read_bytes()
        write_table(frame, tmp_path / name, seed=3)
        assert (tmp_path / f"{name}.provenance.json").read_bytes() == first
        write_table(frame, tmp_path / name, seed=4)
        assert table_files.provenance_of(tmp_path / name)["settings"] == {"seed": 4}
        read = read_table_file(tmp_path / name)
        assert read.x[0] == 0.33333 and read.run.tolist() == ["00123456", "5e12"]
    with pytest.raises(ValueError, match=r"\.csv or \.parquet"):
        write_table(frame, tmp_path / "t.xlsx")


def test_numbers_keep_their_significant_digits():
    values = [0.0, 1.0, -123456.7, 0.0123456, 3e-9, float("inf"), float("nan"), 0.3, 2.5]
    rounded = table_files.significant(pd.Series(values)).tolist()
    assert rounded[:6] == [0.0, 1.0, -123460.0, 0.012346, 3e-9, float("inf")] and rounded[6] != rounded[6]
    assert rounded[7:] == [0.3, 2.5]
    assert table_files.significant(pd.Series(values, dtype="float32")).dtype == "float32"


def test_a_folder_is_whole_or_says_what_is_wrong(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"a")
    (tmp_path / "README.md").write_text("may change")
    assert "sha256.json is missing" in sealed.damage(tmp_path)
    sealed.seal(tmp_path)
    (tmp_path / "README.md").write_text("has changed")
    assert sealed.damage(tmp_path) is None and sealed.damage(tmp_path, "a.bin") is None
    (tmp_path / "a.bin").write_bytes(b"b")
    assert sealed.damage(tmp_path) == "a.bin is not what was written"
    (tmp_path / "a.bin").unlink()
    assert sealed.damage(tmp_path) == "a.bin is missing"


def test_the_commit_is_that_of_a_checkout_that_has_the_package(tmp_path):
    """And not that of one which the package was merely installed in."""
    package = Path(table_files.__file__).parents[1]
    shutil.copytree(package, tmp_path / "lib" / "adaswitch_lib", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *command], check=True)
    ask = [sys.executable, "-c", "from adaswitch_lib.experiments.table_files import COMMIT; print(COMMIT)"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    out = subprocess.run(ask, cwd=tmp_path / "lib", env=environment, capture_output=True, text=True, check=True).stdout
    assert out == "None\n"


def test_records_are_read_without_torch():
    ask = "import sys, adaswitch_lib.experiments.records; print({'torch', 'datasets', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout == "set()\n"
