"""Does a redesign keep the bits? The same tiny studies at two revisions, and every number that differs.

Each revision is checked out beside the other, with a token cache of its own, and runs every study through its own command line:
`audit`, `cost`, `run`, `verify` and `report`. Then what the two wrote is compared, trial by trial: bit by bit the test losses (of
branches too), test windows and final weights; exactly, by its path, every number of the losses of steps and curves, of results,
plan, audit, verdicts, ledger, cost and report. Trials are matched by their place in the plan and their seed, so that a redesign
may give them other ids and folders. Words that differ are told apart from numbers, and are no difference but where a word is a
result (`DECISIVE`). What a machine measures is left out (`LEFT_OUT`); where a redesign moves a number, `RENAMED` says so.

Run: python benchmarks/golden.py OLD NEW [--only NAME ...] [--keep DIR] [--workers 1] [--at-once 2]. OLD and NEW are revisions,
or `.` for the working tree as it stands. Prints a table, the differences, then one JSON line. Exit status 1 if a bit or a number
differs, or a command fails or ends otherwise than before. Bits depend on threads, type of products and processor: both sides run
here, study by study, in float32, not compiled, one thread a worker.
"""

import argparse
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from golden_studies import STUDIES, Golden, contents, settings

ROOT = Path(__file__).resolve().parents[1]

RENAMED: dict[str, str] = {}
"""Where a redesign has moved a number: a regular expression of the whole old path, and the new path, as `re.sub` has it."""

LEFT_OUT: dict[str, str] = {
    r"(^|/)((\w+_)?seconds|tokens_per_second|peak_memory_bytes)(/|$)": "times and memory, as this machine had them",
    r"(^|/)(measured|latencies)(/|$)": "measured, not counted",
    r"(^|/)(started|ended|command|process|worker)(/|$)": "when and how it was started",
    r"(^|/)environment(/|$)": "the machine, and hashes of the code",
    r"(^|/)(sources|commit|diff|manifest)(/|$)": "hashes of the code and of files that name it",
    r"^report\.json/study(/|$)": "the study as it was given; its plan is compared",
    r"(^|/)(under|setting|matching|knob|matched|condition|changes)(/|$)": "what is one condition now was several fields",
    r"^plan\.json/(arms|claims|matchings)/\d+/size$|/claims/\d+/(repeats/\d+/)?size$": "the same: a size is part of a condition",
    r"/config/training/optimizer$|/base/training/optimizer$": "a field that came later; the optimizer is the one there was",
    r"(^|/)id$": "ids of trials, which are matched by place and seed",
}
"""Regular expressions of paths that are not compared, and why."""

OF_THE_MACHINE = "|".join(
    (
        r"\d[\d.,]* ?[kMG]?(?:s|ms|min|h|B|tokens/s)\b",
        r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)",
        r"\b(?:[0-9a-f]{40}|[0-9a-f]{64})\b",
    )
)
"""Of words: times, memory, speeds, dates, and hashes of code and of a manifest, in which all of these are."""

DECISIVE = ("verdict", "status", "outcome", "kind", "over_all")
"""Keys whose words are results: where they differ, it is a difference."""

JSON_FILES = ("plan", "audit", "data", "verdicts", "ledger", "report")
"""Of a study's directory. `result.json`, `metrics.jsonl` and `curve.jsonl` are read for each trial."""

STEP_FIELDS = ("loss", "gradient_norm", "learning_rate", "tokens", "step")
SHOWN = 40
"""Differences that are listed of each study; all are counted."""
WORDS_SHOWN = 5

DRIVER = """
import contextlib, io, json, os, sys, traceback

said = []
for command in json.load(sys.stdin):
    sys.argv = ["paribus", *command]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            status = main()
        except SystemExit as end:
            status = end.code
        except Exception:
            status = "an error"
            traceback.print_exc()
    said.append({"status": status or 0, "out": out.getvalue(), "err": err.getvalue()})
print(json.dumps({"said": said, "cpu": sum(os.times()[:4])}))
"""
"""Runs commands in one process: most of the time of a tiny one is what it imports."""


class Side(NamedTuple):
    """One of the two revisions."""

    label: str
    revision: str
    source: Path
    """Its checkout."""
    folder: Path
    """Where its studies are run."""

    def ready(self, name: str) -> str | None:
        """The text of a ready study, wherever this revision keeps it."""
        found = sorted(self.source.glob(f"src/**/{name}.toml"))
        return found[0].read_text(encoding="utf-8") if found else None

    def python(self, folder: Path, code: str, given: Any = None) -> "subprocess.CompletedProcess[str]":
        """Run code with this revision's package; it reads `given` as JSON."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PARIBUS")}
        own = {
            "PYTHONPATH": str(self.source / "src"),
            "PARIBUS_CACHE": str(self.folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "100",
            "NO_COLOR": "1",
        }
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env=kept | own,
            input=json.dumps(given),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )

    def paribus(self, folder: Path, commands: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Run command lines one after another, as the entry point of this revision has them: what each `said`, and `cpu`
        seconds."""
        project = tomllib.loads((self.source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        module, _, function = project["scripts"]["paribus"].partition(":")
        done = self.python(folder, f"from {module} import {function} as main\n{DRIVER}", commands)
        if done.returncode:
            raise SystemExit(f"{self.revision}: cannot run: {done.stderr}")
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def check(self) -> None:
        """Raise SystemExit if another copy of the package would be run."""
        told = self.python(self.folder, "import paribus; print(paribus.__file__)")
        if not told.stdout.startswith(str(self.source)):
            raise SystemExit(f"{self.revision}: its package is not what runs: {told.stdout}{told.stderr}")


@contextmanager
def checked_out(revision: str, folder: Path) -> Iterator[Path]:
    """The source of a revision: a worktree for as long as it is needed, or the working tree in place."""
    if revision == ".":
        yield ROOT
        return
    git = ("git", "-C", str(ROOT), "worktree")
    made = subprocess.run([*git, "add", "--detach", str(folder), revision], capture_output=True, text=True)
    if made.returncode:
        raise SystemExit(f"{revision}: cannot be checked out: {made.stderr.strip().splitlines()[-1]}")
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], capture_output=True)


def prepare(name: str, folder: Path, old: Side, new: Side) -> None:
    """Write a study and what lies beside it; a ready one is that of the old side, where it has one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    text, wanted = STUDIES[name].text, name
    file = folder / "study.toml"
    while text is None:
        text = old.ready(wanted) or new.ready(wanted)
        if text is None:
            raise SystemExit(f"{wanted}: neither revision has this study")
        parent = re.search(r'^extends = "([\w-]+)"', text, re.MULTILINE)
        if parent:  # the same parent on both sides, too
            text = text.replace(parent[0], f'extends = "{parent[1]}.toml"')
            file.write_text(text, encoding="utf-8")
            file, text, wanted = folder / f"{parent[1]}.toml", None, parent[1]
    file.write_text(text, encoding="utf-8")
    for beside in STUDIES[name].files:
        (folder / beside).write_text(contents(beside), encoding="utf-8")


class Ran(NamedTuple):
    """What a study's commands said."""

    statuses: dict[str, Any]
    complaints: dict[str, str]
    said: dict[str, Any]
    """The JSON that `audit`, `cost` and `verify` printed."""
    seconds: float
    cpu: float
    """Seconds of all its processes together: what it takes, however busy the machine is."""


def commands_of(golden: Golden, workers: int) -> dict[str, list[str]]:
    """The command lines of a study, by what they are called in a difference."""
    sets, at_a_time = settings(golden), ["--workers", str(workers)]
    commands = {}
    for command, *arguments in golden.before:
        more = [*sets, "--set", "seeds=1", *at_a_time] if command == "run" else []
        commands[f"{command} before"] = [command, *arguments, *more]
    return commands | {
        "audit": ["audit", "study.toml", "--json", *sets],
        "cost": ["cost", "study.toml", "--json", "--no-measure", *sets],
        "run": ["run", "study.toml", "--out", "out", *at_a_time, *sets],
        "verify": ["verify", "out", "--seed", "0", "--steps", "3", "--json"],
        "report": ["report", "out", "--format", "json"],
    }


def run_study(name: str, side: Side, workers: int) -> Ran:
    """Run all commands of a study in its folder."""
    started, commands = time.perf_counter(), commands_of(STUDIES[name], workers)
    told = side.paribus(side.folder / name, list(commands.values()))
    (side.folder / name / "said.json").write_text(json.dumps(told), encoding="utf-8")
    done = dict(zip(commands, told["said"], strict=True))
    complaints = {}
    for command, ended in done.items():
        if ended["status"]:
            lines = (ended["err"].strip() or ended["out"].strip() or "no word").splitlines()
            complaints[command] = " / ".join(lines[-3:])
    said = {command: parsed(done[command]["out"]) for command, given in commands.items() if "--json" in given}
    statuses = {command: ended["status"] for command, ended in done.items()}
    return Ran(statuses, complaints, said, time.perf_counter() - started, told["cpu"])


def parsed(text: str) -> Any:
    """What a command printed as JSON, or nothing."""
    try:
        return json.loads(text)
    except ValueError:
        return None


class Tensor(NamedTuple):
    """Values of a file of tensors, as they are stored."""

    dtype: str
    shape: tuple[int, ...]
    stored: bytes


TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "U8": np.uint8}


class Reading(NamedTuple):
    """Everything that is compared of one study at one revision, by path."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]
    """Numbers, truth values, nulls and words."""
    trials: int


def tensors_of(file: Path) -> dict[str, Tensor]:
    """What a safetensors file holds, without anything that would change a bit of it."""
    stored = file.read_bytes()
    start = 8 + int.from_bytes(stored[:8], "little")
    header = json.loads(stored[8:start])
    return {
        name: Tensor(
            of["dtype"], tuple(of["shape"]), stored[start + of["data_offsets"][0] : start + of["data_offsets"][1]]
        )
        for name, of in header.items()
        if name != "__metadata__"
    }


def flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every scalar of a JSON value, with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flat(item, f"{path}/{key}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from flat(item, f"{path}/{place}")
    else:
        yield path, value


def trial_folders(out: Path) -> dict[str, Path]:
    """Where each trial lies, by id."""
    return {json.loads(file.read_bytes())["id"]: file.parent for file in sorted(out.glob("trials/*/trial.json"))}


def planned(plan: dict[str, Any]) -> dict[str, str]:
    """Of each trial's id what it is called here: its place in the plan, and its seed."""
    named = {}
    for kind, rows in (("trial", plan["trials"]), ("tuning", (plan.get("tuning") or {}).get("trials", []))):
        named |= {row["id"]: f"{kind} {place} seed {row['seed']}" for place, row in enumerate(rows)}
    return named


def lines_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def read_trial(folder: Path, name: str) -> Iterator[tuple[str, Any]]:
    """What is compared of a trial or a branch of one: tensors and scalars, by path."""
    for file in sorted(folder.glob("*.safetensors")) + sorted(folder.glob("checkpoint/*.safetensors")):
        for key, tensor in tensors_of(file).items():
            yield f"{name}/{file.name}/{key}", tensor
    for lines in ("metrics", "curve"):
        file = folder / f"{lines}.jsonl"
        for place, row in enumerate(lines_of(file) if file.exists() else []):
            kept = {key: row[key] for key in STEP_FIELDS if key in row} if lines == "metrics" else row
            yield from flat(kept, f"{name}/{file.name}/{place}")
    if (folder / "result.json").exists():
        yield from flat(json.loads((folder / "result.json").read_bytes()), f"{name}/result.json")
    for branch in sorted(folder.glob("branches/*/")):
        yield from read_trial(branch, f"{name}/branches/{branch.name}")


def read_study(out: Path, said: dict[str, Any] | None = None) -> Reading:
    """Read what a run left in `out`, and what commands said about it."""
    found: dict[str, Any] = {}
    plan = json.loads((out / "plan.json").read_bytes()) if (out / "plan.json").exists() else {"trials": []}
    names = planned(plan)
    folders = trial_folders(out)
    for key, name in names.items():
        if key in folders:
            found |= read_trial(folders[key], name)
    for file in sorted(out.glob("*.safetensors")):
        found |= {f"{file.name}/{key}": tensor for key, tensor in tensors_of(file).items()}
    for stem in JSON_FILES:
        if (file := out / f"{stem}.json").exists():
            found |= flat(json.loads(file.read_bytes()), file.name)
    for command, value in (said or {}).items():
        if command == "verify" and value:  # a fault's and a trial's own words hang on what was drawn
            value = {"outcomes": {check["check"]: check["outcome"] for check in value["checks"]}}
        found |= flat(value, command)
    named = re.compile("|".join(re.escape(key) for key in sorted(names, key=len, reverse=True)) or r"(?!)")
    left = re.compile("|".join(f"(?:{pattern})" for pattern in LEFT_OUT))

    def plain(text: str) -> str:
        return named.sub(lambda match: names[match[0]], text)

    def worded(text: str) -> str:
        return "#" if text == "–" else re.sub(OF_THE_MACHINE, "#", plain(text))

    kept = {plain(path): value for path, value in found.items() if not left.search(path)}
    tensors = {path: value for path, value in kept.items() if isinstance(value, Tensor)}
    values = {
        path: worded(value) if isinstance(value, str) else value for path, value in kept.items() if path not in tensors
    }
    return Reading(tensors, values, len(names))


class Comparison(NamedTuple):
    """What two readings of a study have, and where they differ."""

    trials: int
    losses: int
    """Of test windows, steps and curves."""
    weights: int
    numbers: int
    differences: list[str]
    """Bits, numbers, truth values, decisive words, and paths that are on one side alone."""
    words: list[str]


def same(old: Any, new: Any) -> bool:
    """Whether two scalars are the same to the bit; a whole number may be written either way."""
    if isinstance(old, bool) or isinstance(new, bool) or old is None or new is None:
        return old is new
    if isinstance(old, int) and isinstance(new, int):
        return old == new
    if isinstance(old, str) or isinstance(new, str):
        return bool(old == new)
    return float(old).hex() == float(new).hex()


def changed_bits(path: str, old: Tensor, new: Tensor) -> str | None:
    """What differs between two tensors, or None."""
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return f"{path}: {old.dtype} {list(old.shape)}, now {new.dtype} {list(new.shape)}"
    if old.stored == new.stored:
        return None
    if old.dtype not in TYPES:
        return f"{path}: other bits"
    one, other = (np.frombuffer(each.stored, TYPES[old.dtype]) for each in (old, new))
    different = np.flatnonzero(one.view(np.uint8).reshape(len(one), -1) != other.view(np.uint8).reshape(len(one), -1))
    elements = np.unique(different // one.itemsize)
    most = float(np.nanmax(np.abs(one[elements].astype(np.float64) - other[elements].astype(np.float64))))
    return f"{path}: {len(elements)} of {len(one)} differ, by at most {most:.3g}"


def changed_value(path: str, old: Any, new: Any) -> str:
    shown = f"{path}: {old!r}, now {new!r}"
    numbers = [value for value in (old, new) if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)) or not old:
        return shown
    return f"{shown} ({(new - old) / abs(old):+.2g} relatively)"


def is_word(path: str, value: Any) -> bool:
    """Whether a value is a text that may be worded otherwise."""
    return isinstance(value, str) and path.rpartition("/")[2] not in DECISIVE and "/outcomes/" not in path


def renamed(values: dict[str, Any]) -> dict[str, Any]:
    """What the old side has, under the paths of the new one."""
    moved = {}
    for path, value in values.items():
        for pattern, replacement in RENAMED.items():
            if re.fullmatch(pattern, path):
                path = re.sub(pattern, replacement, path)
                break
        moved[path] = value
    return moved


def compare(old: Reading, new: Reading) -> Comparison:
    """Compare two readings of a study, path by path."""
    differences: list[str] = []
    worded: list[str] = []
    tensors, values = renamed(old.tensors), renamed(old.values)
    losses = weights = numbers = 0
    for path in [*tensors, *(path for path in new.tensors if path not in tensors)]:
        if path not in tensors or path not in new.tensors:
            differences.append(f"{path}: only in the {'old' if path in tensors else 'new'} one")
            continue
        elements = math.prod(tensors[path].shape)
        weights += elements * ("/state.safetensors/" in path)
        losses += elements * path.endswith("/test_losses.safetensors/nats")
        if changed := changed_bits(path, tensors[path], new.tensors[path]):
            differences.append(changed)
    for path in [*values, *(path for path in new.values if path not in values)]:
        if path not in values or path not in new.values:
            side, value = ("old", values[path]) if path in values else ("new", new.values[path])
            into = worded if is_word(path, value) else differences
            into.append(f"{path}: only in the {side} one: {value!r}")
            continue
        one, other = values[path], new.values[path]
        numbers += isinstance(one, int | float) and isinstance(other, int | float)
        losses += bool(re.search(r"/metrics\.jsonl/\d+/loss$|/curve\.jsonl/\d+/nats_per_token$", path))
        if not same(one, other):
            into = worded if is_word(path, one) and is_word(path, other) else differences
            into.append(changed_value(path, one, other))
    return Comparison(new.trials, losses, weights, numbers, differences, worded)


def ran(old: Ran, new: Ran) -> list[str]:
    """Commands that ended otherwise than before, or that failed on both sides."""
    faults = []
    for command in sorted({*old.statuses, *new.statuses}):
        statuses = [each.statuses.get(command) for each in (old, new)]
        if statuses[0] != statuses[1] or statuses[0]:
            why = "; ".join(
                f"{side} {status}: {each.complaints.get(command, 'fine')}"
                for side, status, each in zip(("old", "new"), statuses, (old, new), strict=True)
            )
            faults.append(f"{command}: exit status {why}")
    return faults


def listed(title: str, lines: Sequence[str], most: int) -> Iterator[str]:
    """A title and so many lines."""
    if lines:
        yield f"\n{title}: {len(lines)}"
        yield from (f"  {line if len(line) < 300 else line[:300] + ' ...'}" for line in lines[:most])
        if len(lines) > most:
            yield f"  and {len(lines) - most} more"


def by_file(lines: Iterable[str]) -> dict[str, int]:
    """How many differences each file has."""
    names = (re.search(r"[\w.-]+\.(?:jsonl?|safetensors)|^\w+", line) for line in lines)
    return dict(Counter(name[0] if name else "" for name in names).most_common())


def golden(names: Sequence[str], old: Side, new: Side, workers: int, at_once: int) -> list[dict[str, Any]]:
    """Run and compare studies; prints a row for each, then what differs."""
    print(
        "| study | trials | losses | weights | numbers | differences | words | s old | s new | CPU s old | CPU s new |",
        flush=True,
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    rows: list[dict[str, Any]] = []
    told: list[str] = []
    for name in names:
        for side in (old, new):
            prepare(name, side.folder / name, old, new)
    with ThreadPoolExecutor(at_once) as pool, ExitStack() as stack:
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)  # also where it is stopped half-way
        waiting = [[pool.submit(run_study, name, side, workers) for side in (old, new)] for name in names]
        for name, both in zip(names, waiting, strict=True):
            row, lines = judged(name, old, new, [each.result() for each in both])
            rows.append(row)
            told += lines
            cells = (f"{value:,}" if isinstance(value, int) else str(value) for value in row.values())
            print(f"| {' | '.join(cells)} |", flush=True)
    print("\n".join(told))
    return rows


def judged(name: str, old: Side, new: Side, outcomes: Sequence[Ran]) -> tuple[dict[str, Any], list[str]]:
    """The row of a study, and what differs in it."""
    readings = [
        read_study(side.folder / name / "out", outcome.said) for side, outcome in zip((old, new), outcomes, strict=True)
    ]
    compared = compare(*readings)
    faults = [*ran(*outcomes), *compared.differences]
    row = {
        "study": name,
        "trials": compared.trials,
        "losses": compared.losses,
        "weights": compared.weights,
        "numbers": compared.numbers,
        "differences": len(faults),
        "words": len(compared.words),
        "seconds_old": round(outcomes[0].seconds, 1),
        "seconds_new": round(outcomes[1].seconds, 1),
        "cpu_old": round(outcomes[0].cpu, 1),
        "cpu_new": round(outcomes[1].cpu, 1),
    }
    files = ", ".join(f"{file} {count}" for file, count in by_file(faults).items())
    told = [*listed(f"{name}: differences ({files})", faults, SHOWN)]
    return row, [*told, *listed(f"{name}: words that differ", compared.words, WORDS_SHOWN)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", metavar="OLD", help="a git revision, or . for the working tree")
    parser.add_argument("new", metavar="NEW", help="the same")
    parser.add_argument("--only", nargs="+", choices=STUDIES, metavar="NAME", help=f"of {', '.join(STUDIES)}")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="run there, in old/ and new/, and keep it")
    parser.add_argument("--workers", type=int, default=1, help="of each paribus run; 1 if not given")
    parser.add_argument("--at-once", type=int, default=2, help="studies that run side by side; 2 if not given")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that worktrees are removed
    started = time.perf_counter()
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="golden-"))).resolve()
        sides = []
        for label, revision in (("old", asked.old), ("new", asked.new)):
            source = stack.enter_context(checked_out(revision, temporary / f"{label}-source"))
            folder = (asked.keep.resolve() if asked.keep else temporary) / label
            folder.mkdir(parents=True, exist_ok=True)
            sides.append(Side(label, revision, source, folder))
            sides[-1].check()
        rows = golden(asked.only or list(STUDIES), *sides, asked.workers, asked.at_once)
    sums = {key: sum(row[key] for row in rows) for key in rows[0] if key not in ("study",)}
    sums = {key: round(value, 1) for key, value in sums.items()}
    print(f"\n{sums['differences']} differences in {len(rows)} studies, {sums['words']} words")
    seconds = round(time.perf_counter() - started, 1)
    print(
        json.dumps(
            {
                "benchmark": "golden",
                "old": asked.old,
                "new": asked.new,
                "seconds": seconds,
                "sums": sums,
                "studies": rows,
            }
        )
    )
    return 1 if sums["differences"] else 0


if __name__ == "__main__":
    sys.exit(main())
