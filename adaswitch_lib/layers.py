"""Which of SmolLM2's layers a shallower student may keep, compared on validation data: `python -m adaswitch_lib layers`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace

import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from adaswitch_lib.config import teacher_digest
from adaswitch_lib.divergence import forward_kl
from adaswitch_lib.evaluation import examine
from adaswitch_lib.generation import OffPolicy, generate
from adaswitch_lib.losses import completion_logits
from adaswitch_lib.models import eos_token_ids
from adaswitch_lib.paths import results_dir
from adaswitch_lib.presets import preset
from adaswitch_lib.pretraining import train_on_data
from adaswitch_lib.progress import StepBar, watched
from adaswitch_lib.records import digest, write_table
from adaswitch_lib.rollout import Rollout
from adaswitch_lib.tasks import TASKS, encode_prompts, limited
from adaswitch_lib.teachers import load_teacher

CHOICE_SEED = 100
"""Of the students that are compared; no run has it."""

TEXTS = 4

FRONT = (0, 1, 2, 3, 5, 8, 11, 14, 18, 22, 26, 29)
"""Denser at the start; from a trial."""


@contextmanager
def only_layers(model: PreTrainedModel, layers: Sequence[int]) -> Iterator[PreTrainedModel]:
    """The model itself with these of its layers alone, for passes without a cache."""
    every = model.model.layers
    model.model.layers = torch.nn.ModuleList(every[layer] for layer in layers)
    try:
        yield model
    finally:
        model.model.layers = every


@torch.no_grad()
def drop_order(teacher: PreTrainedModel, texts: Rollout, count: int) -> list[int]:
    """The layers that matter least, the least first: each is the one without which KL(teacher ‖ student) rises least.

    Args:
        teacher: a Llama-like model.
        texts: prompts and completions to measure on.
        count: how many to drop.
    """
    real = texts.completion_mask.bool()
    target = completion_logits(teacher, texts)

    def loss(layers: Sequence[int]) -> float:
        with only_layers(teacher, layers) as student:
            return float(forward_kl(target, completion_logits(student, texts))[real].mean())

    kept = list(range(teacher.config.num_hidden_layers))
    dropped = []
    for _ in tqdm(range(count), unit="layer", disable=not watched()):
        least = min(kept, key=lambda layer: loss([other for other in kept if other != layer]))
        kept.remove(least)
        dropped.append(least)
    return dropped


def candidates() -> dict[str, tuple[int, ...]]:
    """Ways to keep as many of the teacher's layers as `FRONT` has.

    `greedy` by `drop_order`, on summaries that the teacher writes for training dialogues; `even`: at equal distances;
    `front`: `FRONT`.
    """
    base = preset("smollm2").base
    teacher, tokenizer = load_teacher("dialogsum")
    task = limited(TASKS["dialogsum"], tokenizer, base.max_prompt_tokens, base.max_new_tokens)
    ids, mask = encode_prompts(tokenizer, task.load("train", TEXTS, CHOICE_SEED)["prompt"])
    texts = generate(
        OffPolicy(),
        teacher,
        teacher,
        ids,
        mask,
        max_new_tokens=task.max_new_tokens,
        row_seeds=range(TEXTS),
        eos_token_id=eos_token_ids(tokenizer, teacher),
        pad_token_id=tokenizer.pad_token_id,
        record_divergence=False,
    )
    layers, count = teacher.config.num_hidden_layers, len(FRONT)
    greedy = set(range(layers)) - set(drop_order(teacher, texts, layers - count))
    even = {round(i * (layers - 1) / (count - 1)) for i in range(count)}
    return {"greedy": tuple(sorted(greedy)), "even": tuple(sorted(even)), "front": FRONT}


def choose_layers() -> pd.DataFrame:
    """Heal a student of each candidate by the start of the preset `smollm2`, in float32, and examine it on validation dialogues.

    Writes `results/smollm2/layers.csv`: layers, score on validation rows after healing. What is in it for this start is not
    made again, so that it goes on where it was stopped.
    """
    results, base = results_dir("smollm2"), preset("smollm2").base
    _, tokenizer = load_teacher("dialogsum")
    task = limited(TASKS["dialogsum"], tokenizer, base.max_prompt_tokens, base.max_new_tokens)
    rows = task.load("train", base.start.num_rows, CHOICE_SEED)
    validation = task.load("validation", base.validation_rows, 0)
    size = replace(base.start.size, layers=(), bf16=False)  # whatever the preset has by now
    healing = asdict(replace(base.start, size=size))
    file, of = results / "layers.csv", digest([healing, teacher_digest("dialogsum"), len(validation), len(FRONT)])
    table = pd.read_csv(file, dtype={"of": str}) if file.is_file() else pd.DataFrame(columns=["of"])
    if set(table.of) != {of}:
        found = {name: " ".join(map(str, layers)) for name, layers in candidates().items()}
        table = pd.DataFrame({"candidate": list(found), "layers": list(found.values()), task.metric: float("nan"), "of": of})
        write_table(table, file)
    for line in table[table[task.metric].isna()].itertuples():
        start = replace(base.start, size=replace(size, layers=tuple(map(int, line.layers.split()))))
        work = results / "work" / f"layers-{line.candidate}-{digest(asdict(start))}"
        with StepBar(work.name, start.steps) as bar:
            student = train_on_data(start, rows, tokenizer, CHOICE_SEED, work, [bar])
        table.loc[line.Index, task.metric] = examine(student, tokenizer, task, validation)[task.metric].mean()
        write_table(table, file, start=healing, seed=CHOICE_SEED, rows=len(validation))
        shutil.rmtree(work)
    return table
