"""What is installed decides what can be done: the core needs torch and transformers alone, the report no torch."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LABORATORY = "datasets gguf math_verify matplotlib pandas peft pyarrow rouge_score scipy seaborn trl".split()

BLOCKED = """
import sys
for name in {blocked}:
    sys.modules[name] = None  # as if it were not installed
"""

LOADED = """
assert not {unwanted} & set(sys.modules)
"""

CORE = """
import adaswitch_lib
from adaswitch_lib import *
assert set(dir(adaswitch_lib)) > {"SwitchRule", "generate", "RolloutTrainer"}
teacher, student, tokenizer = load_pair("tiny")
prompt_ids, prompt_mask = encode_prompts(tokenizer, ["Ann has two apples .", "Bob gives"])
ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
rollout = generate(AdaSwitch(), teacher, student, prompt_ids, prompt_mask, max_new_tokens=8, row_seeds=[0, 1], **ids)
assert rollout.completion_mask.any()
before = student.lm_head.weight.clone()
args = RolloutConfig(sys.argv[1], max_steps=1, per_device_train_batch_size=2, max_new_tokens=8, save_strategy="no")
rows = encode_rows([{"prompt": "Ann has two apples ."}, {"prompt": "Bob gives"}], tokenizer)
RolloutTrainer(student, teacher, METHODS["adaswitch"], args, rows, tokenizer).train()
assert not before.equal(student.lm_head.weight)
"""

REPORT = """
import sys
from pathlib import Path
from adaswitch_lib import METHODS
from adaswitch_lib.experiments.records import read_table
from adaswitch_lib.experiments.tasks import TASKS
from adaswitch_lib.report import claims, figures, findings, tables
results = Path(sys.argv[1])
assert len(tables.table_1(results)) > 10 and len(claims.table(results)) > 10
figures.differences(results)
"""


def run(code, *arguments):
    out = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 0, out.stderr[-2000:]


def test_the_core_writes_and_trains_where_nothing_else_is_installed(tmp_path):
    run(BLOCKED.format(blocked=LABORATORY) + CORE, tmp_path)


def test_tables_and_figures_are_made_without_torch():
    """It takes seconds to load, and memory that a free hub does not have."""
    unwanted = {"torch", "transformers", "datasets", "accelerate"}
    run(REPORT + LOADED.format(unwanted=unwanted), ROOT / "results" / "micro")


COMMAND = """
import sys
from adaswitch_lib.__main__ import main
sys.exit(main({arguments}))
"""


@pytest.mark.parametrize(
    ("arguments", "missing", "extra"),
    [(["train"], "trl", "trl"), (["status"], "pandas", "experiments"), (["reproduce"], "matplotlib", "experiments,report")],
)
def test_commands_say_what_to_install(arguments, missing, extra):
    code = BLOCKED.format(blocked=[missing]) + COMMAND.format(arguments=arguments)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 2
    assert out.stderr.splitlines()[-1] == f"error: adaswitch {arguments[0]} needs {missing}: pip install '.[{extra}]'"


def test_the_list_of_commands_needs_no_torch():
    code = "from adaswitch_lib.__main__ import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    run(code + "import sys" + LOADED.format(unwanted={"torch", "transformers"}))


@pytest.mark.parametrize("name", ["switching", "divergence"])
def test_the_rule_and_the_divergences_need_torch_alone(name):
    run(BLOCKED.format(blocked=[*LABORATORY, "transformers", "accelerate"]) + f"import adaswitch_lib.{name}")


def test_the_targets_for_other_versions_run_every_test_of_the_core():
    """A test file that takes nothing from the laboratory is one of the core."""
    named = re.search(r"^CORE := (.*?)\n\S", (ROOT / "Makefile").read_text(), re.DOTALL | re.MULTILINE)[1]
    for file in ROOT.glob("tests/test_*.py"):
        if not re.search(r"adaswitch_lib\.(experiments|report|__main__)", file.read_text()):
            assert file.stem.removeprefix("test_") in named.split(), file.name


def test_conda_gets_the_versions_that_pip_gets():
    conda, pip = (
        dict(re.findall(rf"{before}([a-z-]+)>=([\d.]+)", (ROOT / file).read_text()))
        for before, file in (("- ", "environment.yml"), ('"', "pyproject.toml"))
    )
    conda["torch"] = conda.pop("pytorch")
    assert conda.items() <= pip.items()
