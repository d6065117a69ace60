"""The command `cost`: what each arm costs to train and to use, counted and measured, in 80 columns."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from paribus import spec
from paribus.cli.audit import preparation, workload_words
from paribus.cli.tables import printing, short, table
from paribus.costs.measuring import Machine, own_arms, study_costs, study_latencies, workload_latencies
from paribus.costs.timing import Load
from paribus.own_code import Code
from paribus.plan.preparing import prepare_plan
from paribus.records.plan import Plan

BATCHES = (1, 16)

_TRAINING = """\
parameters: outside the embeddings, total: with them, live: of all, those that
get a gradient. FLOPs of training, first seed: mask-exact a token read and in
all, and in all as the dense path executes them, masked pairs included.
"""
_SERVING = """\
FLOPs of one sequence. prefill: the prompt up to the first new token, mask-exact
and as the dense path executes it; a token: the next one, then the last.
"""
_FILLS = "Arms trained by mlm fill one [MASK] in one pass instead, and keep nothing.\n"
_KEPT = """\
What decoding reads of a sequence: a token adds so much; of the input part and
of the target part, in which each arm holds prompt and new tokens; and together.
"""
_USED = """\
Of all requests together. reads: tokens read, those that had to be read again
included; KV bytes: the most that is kept, float32; first: from the start of a
turn to its first new token.
"""
_MEASURED = """\
Medians, ± half the range of the middle half of the repeats ({repeats}). prefill: all
prompts of the batch to their first new token; a token: each further one, of all
sequences together; peak: memory beyond the weights. From random weights.
"""


@dataclass(frozen=True)
class Asked:
    """What the command's options ask for; None where its defaults hold."""

    batches: Sequence[int] | None
    prompts: Sequence[int] | None
    new: int | None
    threads: int | None
    dtype: str
    repeats: int
    measure: bool


def show_cost(study: spec.Study, asked: Asked, as_json: bool) -> None:
    """Count and measure the arms of a study and print the result; no text is read beyond what the counts need."""
    code = Code(allowed=True)
    with preparation() as report:
        plan, corpus = prepare_plan(study, code, report)
    window = plan.data.window
    new = asked.new or min(32, max(1, window // 4))
    prompts = list(dict.fromkeys(asked.prompts or (max(1, window // 4), max(1, window // 2))))
    costs = study_costs(plan, corpus, prompts, new, code)
    result: dict[str, Any] = {"question": study.question, "vocabulary": corpus.vocabulary, "new_tokens": new}
    if asked.measure:
        loads = [Load(batch, prompt, new) for batch in dict.fromkeys(asked.batches or BATCHES) for prompt in prompts]
        machine = _machine(plan, asked)
        with _measuring((len(loads) + 1) * asked.repeats * len(costs)) as advance:
            measured = study_latencies(plan, corpus, loads, asked.repeats, machine, advance, code)
            served = workload_latencies(plan, corpus, asked.repeats, machine, advance, code)
        result["machine"] = machine.as_dict()
        for name, arm in costs.items():
            arm["measured"] = measured[name]
            arm["workload"]["measured"] = served[name]
    result |= {"workload": plan.workload.lengths(window)._asdict(), "arms": costs}
    if as_json:
        print(json.dumps(result, indent=1, ensure_ascii=False))
        return
    with printing() as console:
        print_costs(result, asked.dtype, console)


def _machine(plan: Plan, asked: Asked) -> Machine:
    training = own_arms(plan)[0].config.training
    device = "cuda" if training.device != "cpu" and torch.cuda.is_available() else "cpu"
    return Machine(device, asked.dtype, asked.threads or training.threads)


@contextmanager
def _measuring(runs: int) -> Iterator[Any]:
    """A progress bar on stderr; nothing where stderr is no terminal."""
    columns = (TextColumn("measuring"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("measuring", total=runs)
        yield lambda: progress.advance(task)


def print_costs(result: Mapping[str, Any], dtype: str, console: Console) -> None:
    """Print counts and measurements as tables that stay readable in 80 columns."""
    arms, new = result["arms"], result["new_tokens"]
    console.print(Text(result["question"], style="bold"))
    console.print(_training(arms))
    console.print(_TRAINING)
    console.print(_serving(arms, new))
    fills = any(prompt["decode_flops"] is None for arm in arms.values() for prompt in arm["served"].values())
    console.print(_SERVING + _FILLS * fills)
    console.print(_kept(arms, new, dtype))
    console.print(_KEPT)
    console.print(_workload(arms, result["workload"]))
    console.print(_USED)
    if "machine" in result:
        for load in _latencies(arms, result["machine"]):
            console.print(load)
        repeats = min(row["prefill"]["repeats"] for arm in arms.values() for row in arm["measured"])
        console.print(_MEASURED.format(repeats=repeats))


def _training(arms: Mapping[str, Any]) -> Table:
    made = _numbers(
        table("What each arm is, and what it costs to train", "arm"),
        "parameters",
        "total",
        "live",
        "a token",
        "in all",
        "executed",
    )
    for name, arm in arms.items():
        counts = [short(arm[key]) for key in ("parameters", "total_parameters", "live_parameters")]
        flops = arm["train_flops"]
        cells = (arm["train_flops_per_token"]["exact"], flops["exact"], flops["executed"])
        made.add_row(Text(name), *counts, *map(power, cells))
    return made


def _serving(arms: Mapping[str, Any], new: int) -> Table:
    title = f"What it costs to read a prompt and write {_tokens(new)}"
    made = _numbers(table(title, "prompt", "arm"), "prefill", "executed", "a token", "the last", "in all")
    for length, name, served in _prompts(arms):
        prefill, decode, whole = served["prefill_flops"], served["decode_flops"], served["generation_flops"]
        cells = [power(prefill["exact"]), power(prefill["executed"])]
        cells += ["-"] * 3 if decode is None else [power(decode["first"]), power(decode["last"]), power(whole["exact"])]
        made.add_row(length, name, *cells)
    return made


def _kept(arms: Mapping[str, Any], new: int, dtype: str) -> Table:
    title = f"Bytes of keys and values, {dtype}, after {_tokens(new)}"
    made = _numbers(table(title, "prompt", "arm"), "a token", "input", "target", "sequence")
    for length, name, served in _prompts(arms):
        kept = served["kv_bytes"].get(dtype, {})
        cells = [kept.get(key) for key in ("per_token", "input", "target", "sequence")]
        made.add_row(length, name, *("-" if cell is None else f"{cell:,}" for cell in cells))
    return made


def _workload(arms: Mapping[str, Any], lengths: Mapping[str, int]) -> Table:
    """The study's workload, arm by arm; measured where it was."""
    made = table(f"The study's workload: {workload_words(lengths)}", "arm")
    _numbers(made, "reads", "FLOPs", "executed", "KV bytes", "first ms", "all ms", "±")
    for name, arm in arms.items():
        served = arm["workload"]
        if served["unserved"]:
            made.add_row(Text(f"{name}: {served['unserved']}"), *["-"] * 6, "")
            continue
        flops, measured = served["flops"], served.get("measured")
        times = ["-", "-", ""] if measured is None else [_time(measured["first"])[0], *_time(measured["total"])]
        made.add_row(
            Text(name),
            short(served["read"]),
            power(flops["exact"]),
            power(flops["executed"]),
            short(served["kv_bytes"]),
            *times,
        )
    return made


def _latencies(arms: Mapping[str, Any], machine: Mapping[str, Any]) -> Iterator[Table]:
    """A table for each load, arms side by side."""
    threads = f" with {machine['threads']} thread{'s' * (machine['threads'] > 1)}" if machine["device"] == "cpu" else ""
    for rows in zip(*(arm["measured"] for arm in arms.values()), strict=True):
        load = f"batch {rows[0]['batch']}, prompts of {rows[0]['prompt']}, {_tokens(rows[0]['new'])}"
        title = f"Measured on {machine['device']}{threads}, {machine['dtype']}: {load}"
        made = _numbers(table(title, "arm"), "prefill ms", "±", "a token ms", "±", "tokens/s", "peak MB")
        for name, row in zip(arms, rows, strict=True):
            peak, token = row["peak_bytes"], row["token"]
            made.add_row(
                Text(name),
                *_time(row["prefill"]),
                *(("-", "") if token is None else _time(token)),
                f"{row['tokens_per_second']:,.0f}",
                "-" if peak is None else f"{peak / 1e6:,.1f}",
            )
        yield made


def _numbers(made: Table, *columns: str) -> Table:
    for column in columns:
        made.add_column(column, justify="right", no_wrap=True)
    return made


def _prompts(arms: Mapping[str, Any]) -> Iterator[tuple[str, Text, Mapping[str, Any]]]:
    """Length, arm and costs, arms of one length together; the length is told once."""
    for length in next(iter(arms.values()))["served"]:
        for index, (name, arm) in enumerate(arms.items()):
            yield "" if index else length, Text(name), arm["served"][length]


def _time(seconds: Mapping[str, float]) -> tuple[str, str]:
    """Milliseconds, and their spread in percent."""
    median = seconds["median"]
    return f"{1e3 * median:#.3g}".rstrip("."), f"{(seconds['high'] - seconds['low']) / 2 / median:.0%}"


def _tokens(count: int) -> str:
    return f"{count} new token{'s' * (count > 1)}"


def power(number: float) -> str:
    """Three digits and a power of ten."""
    return f"{number:.2e}".replace("e+0", "e").replace("e+", "e")
