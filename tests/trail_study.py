"""A small study, really run, for the tests of the audit trail; and what may have happened to its directory since."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paribus
from corpora import documents, write_folder
from paribus.files import read_json
from paribus.records.manifest import write_manifest
from paribus.records.plan import Plan
from paribus.report.build import build_report
from paribus.spec.study import Study

TABLES: dict[str, Any] = {
    "question": "Does looking both ways help?",
    "vary": ["model.input_attention"],
    "seeds": 2,
    "data": {"window": 32, "vocabulary": 400},
    "model": {"layers": 2, "width": 16, "head_size": 8},
    "training": {"tokens": 4000, "batch": 4, "compile": "never", "dtype": "float32"},
    "evaluation": {"test_windows": 24, "tune_windows": 12, "curve_points": 3},
    # Not in the order of the alphabet: trials run in the order in which arms are written.
    "arm": {"unilm": {"model": {"input_attention": "bidirectional"}}, "gpt": {}},
    "claim": [{"says": "no gain", "arm": "unilm", "against": "gpt", "expect": "not_better", "margin": 0.5}],
}


def study_of(folder: Path, **more: Any) -> Study:
    """The study, on a folder of text that is written if it is not there."""
    if not folder.exists():
        write_folder(folder, documents(40))
    return paribus.study_from({**TABLES, "data": {**TABLES["data"], "corpus": str(folder)}, **more})


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change one JSON file in place."""
    value = read_json(path)
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def edit_line(path: Path, number: int, change: Callable[[Any], None]) -> None:
    """Change one line of a JSON-lines file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    value = json.loads(lines[number])
    change(value)
    lines[number] = json.dumps(value)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def hash_again(out: Path) -> None:
    """What a careful forger does at last: write the manifest anew, and the report, which names its hash."""
    write_manifest(out, Plan.from_dict(read_json(out / "plan.json")))
    build_report(out)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
