"""Time the generator against the token-by-token loop, the naive loop and `transformers.generate`; and the loss.

    python benchmarks/rollouts.py [--repeats 5] [--threads 2] [--pairs micro smollm2] [--scaling] [--out results/bench]

Every number is a ratio of medians measured in one run, with the candidates taking turns. It wants a machine
with nothing else to do: two threads that share a core with another process wait for each other at every product.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
import transformers
from naive import naive_adaswitch
from transformers import LlamaConfig, LlamaForCausalLM

from adaswitch_lib import (
    AdaSwitch,
    OffPolicy,
    OnPolicy,
    SwitchRule,
    encode_prompts,
    forward_kl,
    generate,
    load_pair,
    static_decoding,
)
from adaswitch_lib.experiments.paths import figures_dir
from adaswitch_lib.experiments.records import write_table
from adaswitch_lib.experiments.tasks import sample_prompts
from adaswitch_lib.losses import distillation_loss
from adaswitch_lib.report import figures

NEVER = SwitchRule(multiplier=math.inf)


def in_turns(candidates: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every call; the candidates take turns, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for round_ in range(repeats + 1):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            if round_:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def candidates(pair, prompt_ids, prompt_mask, max_new_tokens: int, pad: int, eos: int) -> dict[str, Callable[[], object]]:
    teacher, student = pair
    rows = range(len(prompt_ids))
    ours = partial(
        generate,
        teacher=teacher,
        student=student,
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        max_new_tokens=max_new_tokens,
        row_seeds=rows,
        eos_token_id=eos,
        pad_token_id=pad,
    )

    def static(policy):
        with static_decoding():
            return ours(policy)

    theirs = partial(
        transformers.GenerationMixin.generate,
        inputs=prompt_ids,
        attention_mask=prompt_mask,
        max_new_tokens=max_new_tokens,
        do_sample=True,
        top_k=0,
        top_p=1.0,
        temperature=1.0,
        pad_token_id=pad,
        eos_token_id=eos,
    )
    # no model writes this EOS: all candidates write the same number of tokens, and a ratio compares like with like
    return {
        "explore, block 1": lambda: ours(AdaSwitch(NEVER), block_size=1),
        "explore, block 8": lambda: ours(AdaSwitch(NEVER)),
        "adaswitch, naive loop": lambda: naive_adaswitch(
            teacher, student, prompt_ids, prompt_mask, max_new_tokens=max_new_tokens, rule=SwitchRule(), eos_token_id=eos
        ),
        "adaswitch": lambda: ours(AdaSwitch(SwitchRule())),
        "adaswitch, static buffers": lambda: static(AdaSwitch(SwitchRule())),
        "adaswitch, divergence where needed": lambda: ours(AdaSwitch(SwitchRule()), record_divergence=False),
        "on-policy": lambda: ours(OnPolicy(), record_divergence=False),
        "on-policy, transformers": lambda: theirs(student),
        "off-policy": lambda: ours(OffPolicy(), record_divergence=False),
        "off-policy, transformers": lambda: theirs(teacher),
    }


RATIOS = (
    ("exploring in blocks", "explore, block 1", "explore, block 8", "≥ 1.7"),
    ("AdaSwitch against the naive loop", "adaswitch, naive loop", "adaswitch", "≥ 1.5"),
    ("the same, record_divergence=False", "adaswitch, naive loop", "adaswitch, divergence where needed", "≥ 1.5"),
    ("static buffers against those that grow", "adaswitch", "adaswitch, static buffers", "≥ 1.0"),
    ("on-policy against transformers.generate", "on-policy, transformers", "on-policy", "≥ 1.0"),
    ("off-policy against transformers.generate", "off-policy, transformers", "off-policy", "≥ 1.0"),
)


def smollm2_setting():
    teacher, student, tokenizer = load_pair("smollm2")
    ids, mask = encode_prompts(tokenizer, [*sample_prompts("gsm8k")[:4], *sample_prompts("dialogue")[:4]])
    never_written = tokenizer.convert_tokens_to_ids("<repo_name>")
    return (teacher, student), ids, mask, 96, tokenizer.pad_token_id, never_written


def micro_model(layers: int, width: int, vocab: int = 60) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=2048,
        initializer_range=0.1,
    )
    model = LlamaForCausalLM(config).eval()
    model.lm_head = torch.nn.Linear(width, vocab)
    torch.nn.init.normal_(model.lm_head.weight, std=0.3)
    model.lm_head.bias.data[1] = -1e4  # EOS is never written
    return model


def micro_setting(batch: int = 64, max_new_tokens: int = 48, vocab: int = 60):
    torch.manual_seed(0)
    pair = micro_model(4, 128, vocab), micro_model(2, 64, vocab)
    ids = torch.randint(3, vocab, (batch, 31))
    mask = torch.ones_like(ids)
    mask[: batch // 2, :5] = 0
    return pair, ids, mask, max_new_tokens, 0, 1


def scaling() -> pd.DataFrame:
    """AdaSwitch on the micro pair: seconds against length, batch and vocabulary, one at a time."""
    rows = []
    for axis, values in {"max_new_tokens": (16, 48, 96, 192), "batch": (8, 32, 64, 128), "vocab": (60, 1000, 8000, 32000)}.items():
        for value in values:
            pair, ids, mask, length, pad, eos = micro_setting(**{axis: value})
            some = candidates(pair, ids, mask, length, pad, eos)
            names = ("adaswitch", "adaswitch, naive loop", "on-policy", "off-policy")
            for name, seconds in in_turns({name: some[name] for name in names}, 3).items():
                rows.append({"axis": axis, "value": value, "what": name, "seconds": statistics.median(seconds)})
    return pd.DataFrame(rows)


def loss_case(kind: str, dtype: str) -> None:
    """One loss and its gradient at 2,048 tokens × 49,152 words in this process; prints seconds and peak MB above the logits."""
    generator = torch.Generator().manual_seed(0)
    t, s = (torch.randn(1, 2048, 49152, generator=generator).to(getattr(torch, dtype)) for _ in range(2))
    s.requires_grad_(True)
    mask = torch.ones(1, 2048)
    plain = lambda: forward_kl(t, s).mean()  # noqa: E731
    call = plain if kind == "plain" else lambda: distillation_loss(t, s, mask)
    Path("/proc/self/clear_refs").write_text("5")  # start the peak anew, behind the making of the inputs
    before = peak_mb()
    seconds = []
    for _ in range(3):
        s.grad = None
        start = time.perf_counter()
        call().backward()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"loss": kind, "dtype": dtype, "seconds": statistics.median(seconds), "peak_mb": peak_mb() - before}))


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def loss_table(threads: int) -> pd.DataFrame:
    rows = []
    for dtype in ("float32", "bfloat16"):
        for kind in ("plain", "chunked"):
            command = [sys.executable, __file__, "--threads", str(threads), "--loss", kind, dtype]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", nargs="*", choices=("micro", "smollm2"), default=("micro", "smollm2"))
    parser.add_argument("--scaling", action="store_true", help="also time the micro pair against length, batch and vocabulary")
    parser.add_argument("--loss", nargs=2, metavar=("KIND", "DTYPE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.loss:
        return loss_case(*arguments.loss)

    settings = {"micro": micro_setting, "smollm2": smollm2_setting}
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    provenance = {"threads": arguments.threads, "repeats": arguments.repeats}
    for name in arguments.pairs:
        seconds = in_turns(candidates(*settings[name]()), arguments.repeats)
        times = pd.DataFrame([{"what": what, "seconds": value} for what, values in seconds.items() for value in values])
        write_table(times, out / f"seconds_{name}.csv", pair=name, **provenance)
        ratios = [
            {
                "what": what,
                "times faster": round(statistics.median(seconds[slow]) / statistics.median(seconds[fast]), 2),
                "wanted": wanted,
            }
            for what, slow, fast, wanted in RATIOS
        ]
        write_table(pd.DataFrame(ratios), out / f"ratios_{name}.csv", pair=name, **provenance)
        print(name, pd.DataFrame(ratios).to_string(index=False), sep="\n", flush=True)
    loss = loss_table(arguments.threads)
    write_table(loss, out / "loss.csv", tokens=2048, vocabulary=49152, **provenance)
    print(loss.to_string(index=False), flush=True)
    if arguments.scaling:
        growth = scaling()
        write_table(growth, out / "scaling.csv", pair="micro", **provenance)
        figures.save(figures.cost_growth(growth), figures_dir("bench"))


if __name__ == "__main__":
    main()
