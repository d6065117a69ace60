"""The command `audit`: what differs, what is equal, what each arm costs, in 80 columns."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from paribus import spec
from paribus.cli import budgets
from paribus.cli.power import Spread, foretold, print_power
from paribus.cli.sizes import by_size, hashes_table, of_size, own_changes, same_claims, sizes_table, tight
from paribus.cli.tables import printing, short, table
from paribus.cli.tuning import foretold_tuning, with_first_stage
from paribus.data.sources import Progress as Report
from paribus.errors import AuditError
from paribus.own_code import Code, short_name
from paribus.plan.audit import audit, complaints
from paribus.plan.designs import designs
from paribus.plan.effects import told
from paribus.plan.factorial import summary
from paribus.plan.preparing import prepare_plan
from paribus.records.condition import Condition
from paribus.records.plan import Plan
from paribus.spec.parts import readable
from paribus.spec.problems import shown
from paribus.spec.stopping import at_look, looks

_HASH = 8  # digits shown of a hash

_LEGEND = """\
start, batches: hashes of the initial weights that all arms share and of the
data order; parameters: outside the embeddings, total: with them, live: of all,
those that get a gradient; seen: tokens read; with loss: tokens predicted.
All of the first seed.
"""
_COSTS = """\
FLOPs, mask-exact and as the dense path executes them. serve: all of
{workload},
read again only where the arm must; KV bytes: the most it keeps, float32;
path: layers one after another from a token to the logits.
"""


def show_audit(study: spec.Study, as_json: bool, spread: Spread) -> None:
    """Prepare the study's text, audit its plan and print the result. Raises AuditError if the audit fails.

    `spread` is of each claim's improvement over seeds, where that is known.
    """
    first = at_look(study, looks(study)[0])
    code = Code(allowed=True)
    with preparation() as report:
        plan, corpus = prepare_plan(first, code, report)
    plan = with_first_stage(plan)
    result, crossed = audit(plan, corpus, code), designs(plan, study.vary)
    if as_json:
        result["crossings"] = [
            {"condition": condition.model_dump(mode="json"), **each.to_dict()} for condition, each in crossed
        ]
        result["power"] = foretold(study, plan, spread)
        print(json.dumps(result, indent=1, sort_keys=True, ensure_ascii=False))
    else:
        with printing() as console:
            print_audit(result, plan, study, console)
            if crossed:
                lines = [line for _, each in crossed for line in summary(each)]
                lines += [f"Claimed: {effect.says}: {told(effect.model_dump())}." for effect in plan.effects]
                console.print(Text("\n" + "\n".join(dict.fromkeys(lines))))
            print_power(study, plan, foretold(study, plan, spread), console)
    found = complaints(result)
    if found:
        raise AuditError(f"the audit failed: {found[0]}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else ""))


@contextmanager
def preparation() -> Iterator[Report]:
    """A progress bar on stderr for the preparation of a corpus; nothing where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("preparing text", total=None)

        def report(stage: str, done: int, total: int | None) -> None:
            progress.update(task, description=stage, completed=done, total=total)

        yield report


def print_audit(result: Mapping[str, Any], plan: Plan, study: spec.Study, console: Console) -> None:
    """Print an audit as tables that stay readable in 80 columns, and plain where the output is no terminal."""
    arms = result["arms"]
    console.print(Text(study.question, style="bold"))
    flops = sum(arms[trial.arm]["seeds"][str(trial.seed)]["train_flops"] for trial in plan.trials)
    console.print(
        f"{len(plan.arms)} arms x {len(plan.seeds)} seeds = {len(plan.trials)} trials, {short(flops)} training FLOPs in all\n"
    )
    for line in foretold_tuning(result, plan):
        console.print(Text(line))
    if plan.tuning:
        console.print()
    if plan.sizes:
        console.print(sizes_table(plan))
        console.print(_differences_by_size(plan, arms))
        console.print(hashes_table(plan, arms, _HASH))
    else:
        console.print(_differences(arms))
    console.print(_sizes(plan, arms))
    console.print(_LEGEND)
    console.print(_costs(plan, arms))
    console.print(_COSTS.format(workload=workload_words(result["workload"])))
    if lines := list(budgets.planned(arms)):
        console.print(Text("\n".join(lines) + "\n"))
    for name, arm in arms.items():
        if arm["unserved"]:
            console.print(Text(f"{name} cannot serve this workload: {arm['unserved']}\n"))
    for line in _checkpoints(arms):
        console.print(Text(f"{line}\n"))
    for matching in plan.matchings:
        for name, latency in matching.latencies.items():
            sets = ", ".join(f"{field} = {value}" for field, value in matching.changes[name].items()) or "as it is"
            told = f"{latency['ratio']:.3f} times as long as {matching.reference}, ± {latency['spread']:.1%}, measured here"
            console.print(Text(f"{name}, {sets}: takes {told}\n"))
    if result["claims"]:
        console.print(_claims(plan, result["claims"]))
    if found := complaints(result):
        for fault in found:
            console.print(Text(f"- {fault}", style="red"))
    else:
        console.print("The audit passed: nothing undeclared differs, and all that must be equal is.")


def _differences(arms: Mapping[str, Any]) -> Table:
    made = table("What each arm changes of the base", "arm", "sets", "start", "batches")
    for name, arm in arms.items():
        sets = [f"{field} = {_value(value)}" for field, value in arm["differs"].items()]
        sets += [f"({field} follows: {_value(value)})" for field, value in arm["follows"].items()]
        start = arm["common_init"][:_HASH] if arm["common_parameters"] else "-"
        order = arm["data_order"][:_HASH]
        made.add_row(Text(name), Text("\n".join(sets) or "nothing"), start, order)
    return made


def _differences_by_size(plan: Plan, arms: Mapping[str, Any]) -> Table:
    """As `_differences`, an arm once for all sizes and without what its size sets; where values differ by size, all of them."""
    made = table("What each arm changes of the base of its size", "arm", "sets")
    for name, own, following in own_changes(plan, arms):
        sets = [f"{field} = {', '.join(map(_value, by_size(values)))}" for field, values in own.items()]
        sets += [f"({field} follows: {', '.join(map(_value, by_size(values)))})" for field, values in following.items()]
        made.add_row(Text(name), Text("\n".join(sets) or "nothing"))
    return made


def workload_words(lengths: Mapping[str, int]) -> str:
    """A workload in a few words: `16 requests of 8 turns, 4 tokens in and 4 out`."""
    requests, turns = (f"{lengths[key]} {word}{'s' * (lengths[key] > 1)}" for key, word in _WORDS)
    prefix = f" after {lengths['shared_prefix']} shared" if lengths["shared_prefix"] else ""
    return f"{requests} of {turns}, {lengths['input']} tokens in{prefix}, {lengths['output']} out"


_WORDS = (("batch", "request"), ("turns", "turn"))


def _sizes(plan: Plan, arms: Mapping[str, Any]) -> Table:
    return _columns(
        "What each arm is and reads",
        plan,
        arms,
        {
            "parameters": "parameters",
            "total": "total_parameters",
            "live": "live_parameters",
            "seen": "seen_tokens",
            "with loss": "loss_tokens",
        },
    )


def _costs(plan: Plan, arms: Mapping[str, Any]) -> Table:
    return _columns(
        "What each arm costs",
        plan,
        arms,
        {
            "training": "train_flops",
            "executed": "train_flops_executed",
            "serve": "serve_flops",
            "executed ": "serve_flops_executed",
            "KV bytes": "kv_bytes",
            "path": "serial_path",
        },
    )


def _columns(title: str, plan: Plan, arms: Mapping[str, Any], keys: Mapping[str, str]) -> Table:
    """A row for each arm, a column for each of its counts; `-` where there is none."""
    made = table(title, "size", "arm") if plan.sizes else table(title, "arm")
    for column in keys:
        made.add_column(column.strip(), justify="right", no_wrap=True)
    for name, arm in arms.items():
        words = of_size(plan, name) if plan.sizes else (Text(name),)
        shorter = tight if plan.sizes else short
        made.add_row(*words, *("-" if arm[key] is None else shorter(arm[key]) for key in keys.values()))
    return made


def _checkpoints(arms: Mapping[str, Any]) -> Iterator[str]:
    """A line for each arm that starts from a checkpoint: what that lacks starts as `init` says."""
    for name, arm in arms.items():
        if start := arm["start_from"]:
            fresh = ", ".join(start["start_as_init_says"]) or "nothing"
            yield f"{name} starts from {start['folder']} ({start['hash'][:_HASH]}); as model.init says: {fresh}"


def _claims(plan: Plan, claims: list[dict[str, Any]]) -> Table:
    made = table("What each claim varies and holds", "claim", "differs in", "equal", "")
    named = [(f"{claim['arm']} against {claim['against']}{_matching(claim)}", claim) for claim in claims]
    for words, claim in same_claims(plan, claims) if plan.sizes else named:
        varies = [f"{field}{' (undeclared)' if field in claim['undeclared'] else ''}" for field in claim["varies"]]
        varies += [f"({field})" for field in claim["follows"]]
        varies += [f"{field} (tuned)" for field in claim["tuned"]]
        holds = [_hold(hold) for hold in claim["holds"]]
        made.add_row(
            Text(words),
            Text("\n".join(varies) or "nothing"),
            Text("\n".join(holds) or "-"),
            Text("ok" if claim["passed"] else "FAILS", style="green" if claim["passed"] else "bold red"),
        )
    return made


def _matching(claim: Mapping[str, Any]) -> str:
    """Under which matching a claim is made; the names of its arms say other repetitions."""
    condition = Condition.model_validate(claim["condition"])
    return f", {condition.where}" if condition.matching else ""


def _hold(hold: Mapping[str, Any]) -> str:
    if not hold["holds"]:
        return f"{hold['quantity']}: {short(hold['arm'])}, {short(hold['against'])}"
    return f"{hold['quantity']} (within {100 * hold['tolerance']:g}%)" if hold["tolerance"] else str(hold["quantity"])


def _value(value: Any) -> str:
    return short_name(value) if isinstance(value, str) else shown(readable(value))
