"""The house: data flows one way, and every module can be read in one sitting."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "paribus"
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py")

# From left to right; a module may import what stands left of it, and its neighbours.
ORDER = [
    ("errors", "files"),
    ("study",),
    ("data", "models"),
    ("checkpoints",),
    ("study.audit", "study.quantities", "study.sizes", "study.plan", "study.matching", "study.tuning", "study.designs"),
    ("training",),
    ("evaluation",),
    ("generation",),
    ("engines",),
    ("statistics",),
    ("report",),
    ("experiment",),
    ("trail",),
    ("cli",),
]


def place(module: str) -> int:
    """Where in the order a dotted module (without `paribus.`) stands."""
    ranked = [
        (len(name), rank) for rank, names in enumerate(ORDER) for name in names if f"{module}.".startswith(f"{name}.")
    ]
    assert ranked, f"{module} has no place in the house"
    return max(ranked)[1]


def imported(path: Path) -> set[str]:
    """The paribus modules that a file imports, without `paribus.`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("paribus"):
            parent = (node.module or "").removeprefix("paribus").removeprefix(".")
            for alias in node.names:
                inner = f"{parent}.{alias.name}".strip(".")
                found.add(inner if (SOURCE / f"{inner.replace('.', '/')}.py").exists() else parent)
    return {module for module in found if module and module in {dotted(other) for other in MODULES}}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_imports_only_from_its_left(path: Path) -> None:
    wrong = [other for other in imported(path) if place(other) > place(dotted(path))]
    assert not wrong, f"{dotted(path)} imports {wrong}"
