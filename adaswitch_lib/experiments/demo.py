"""Texts to look at, before anything is distilled: by five policies on the same prompts (figures 1 and 2), and live.

No torch at import, so that kept texts can be shown without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaswitch_lib.experiments.paths import results_dir
from adaswitch_lib.experiments.table_files import read_table_file, write_table
from adaswitch_lib.experiments.tasks import TASKS, sample_prompts

if TYPE_CHECKING:
    import pandas as pd

    from adaswitch_lib.models import Pair

PAIRS = ("smollm2", "micro")
"""SmolLM2-135M-Instruct and a copy with 26 of its 30 layers; the shipped teacher of the word problems and a copy with 3 of 4."""

TEMPERATURE = {"smollm2": 0.7, "micro": 1.0}
TOKENS = 48
"""Most tokens of a text."""


def demo_prompts(pair: str) -> list[str]:
    """Questions of GSM8K and short dialogues for SmolLM2; word problems of the micro world for its pair."""
    if pair == "smollm2":
        return sample_prompts("gsm8k") + sample_prompts("dialogue")
    return TASKS["micro_gsm"].load("validation", 16, 0)["prompt"]


def demo_pair(pair: str) -> Pair:
    """One of `PAIRS`: a student that writes sentences, but poor ones, since it has lost layers and was not trained since.

    Raises:
        ValueError: for another name.
    """
    from transformers.utils.logging import disable_progress_bar

    from adaswitch_lib.experiments.teachers import load_teacher
    from adaswitch_lib.models import Pair, load_pair, with_layers

    if pair not in PAIRS:
        raise ValueError(f"no demo pair {pair!r}: use one of {', '.join(PAIRS)}.")
    disable_progress_bar()
    if pair == "smollm2":
        return load_pair("smollm2", student_layers=26)
    teacher, tokenizer = load_teacher("micro_gsm")
    return Pair(teacher, with_layers(teacher, (0, 1, 3)).eval(), tokenizer)


class Writer:
    """Writes a text of one's own prompt by a policy."""

    def __init__(self, pair: str = "micro"):
        from adaswitch_lib.policies import AdaSwitch, OffPolicy, OnPolicy, PerTokenSwitch, SpeculativeKD

        self.pair, self.temperature = demo_pair(pair), TEMPERATURE[pair]
        self.prompt = demo_prompts(pair)[0]
        self.policies = {
            "off-policy": OffPolicy(),
            "on-policy": OnPolicy(),
            "SKD (top 25)": SpeculativeKD(top_k=25),
            "SWITCH, token by token": PerTokenSwitch(),
            "AdaSwitch": AdaSwitch(),
        }

    def __call__(
        self,
        prompts: Sequence[str],
        policy: str,
        temperature: float | None = None,
        seed: int = 0,
        show: Callable[[pd.DataFrame], None] | None = None,
    ) -> pd.DataFrame:
        """The per-token table of the texts (`Rollout.to_frame`).

        Args:
            policy: a name in `policies`.
            temperature: of sampling; None: the pair's own.
            seed: of the first row; the next ones count on.
            show: called with the table after each token.
        """
        from adaswitch_lib.data import encode_prompts
        from adaswitch_lib.generation import generate

        tokenizer = self.pair.tokenizer
        rollout = generate(
            self.policies[policy],
            self.pair.teacher,
            self.pair.student,
            *encode_prompts(tokenizer, prompts),
            max_new_tokens=TOKENS,
            row_seeds=range(seed, seed + len(prompts)),
            temperature=self.temperature if temperature is None else temperature,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            block_size=1 if show else 8,
            on_block=(lambda rollout: show(rollout.to_frame(tokenizer))) if show else None,
            vocab_size=self.pair.vocab_size,
        )
        return rollout.to_frame(tokenizer)

    def unknown(self, prompt: str) -> list[str]:
        """The words of a prompt that the pair's tokenizer does not know."""
        tokenizer = self.pair.tokenizer
        return [word for word in dict.fromkeys(prompt.split()) if tokenizer.unk_token in tokenizer.tokenize(word)]


def write_texts(pair: str = "smollm2") -> Path:
    """Write a text of every demo prompt by each policy, from the same seeds, into the pair's file (SmolLM2: 3 minutes, 2.3 GB)."""
    import pandas as pd

    writer, prompts = Writer(pair), demo_prompts(pair)
    tables = pd.concat({name: writer(prompts, name) for name in writer.policies}, names=["policy"]).reset_index("policy")
    return write_table(tables, _file(pair), pair=pair, temperature=writer.temperature, max_new_tokens=TOKENS, seed=0)


def kept_texts(pair: str = "smollm2") -> pd.DataFrame:
    """What `write_texts` wrote: policy, and the columns of `Rollout.to_frame`.

    Raises:
        FileNotFoundError: where nothing was written yet.
        DamagedFile: if the file is not what was written.
    """
    file = _file(pair)
    if not file.is_file():
        raise FileNotFoundError(f"no {file}: the texts are kept in the repository; or write them anew, with write = True.")
    return read_table_file(file)


def _file(pair: str) -> Path:
    return results_dir("quickstart" if pair == "smollm2" else f"quickstart_{pair}") / "traces.parquet"
