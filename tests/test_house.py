"""The house: a folder is one floor, data flows one way, and every module can be read in one sitting."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "paribus"
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py")
PACKAGE = SOURCE / "__init__.py"

# From the ground up. A module imports what stands on floors below it, and its neighbours in its own folder; folders of one floor
# know nothing of each other. Modules of the package itself are the ground.
FLOORS = [
    ("",),
    ("spec",),
    ("data", "models", "statistics"),
    ("checkpoints", "generation"),
    ("training", "evaluation"),
    ("records",),
    ("costs",),
    ("plan",),
    ("engines", "display"),
    ("analyses",),
    ("report",),
    ("verify",),
    ("api",),
    ("cli",),
]
LONGEST = 400
"""Lines of a module."""


def folder(module: str) -> str:
    """The folder in which a dotted module (without `paribus.`) stands; empty for modules of the package itself."""
    return module.partition(".")[0] if "." in module else ""


def floor(module: str) -> int:
    """The number of the floor, from the ground up."""
    return next(number for number, folders in enumerate(FLOORS) if folder(module) in folders)


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


def test_every_folder_is_one_floor() -> None:
    folders = {entry.name for entry in SOURCE.iterdir() if entry.is_dir() and entry.name != "__pycache__"}
    assert folders | {""} == {name for floor in FLOORS for name in floor}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_imports_from_floors_below_and_from_its_own_folder(path: Path) -> None:
    own = dotted(path)
    wrong = [other for other in imported(path) if floor(other) >= floor(own) and folder(other) != folder(own)]
    assert not wrong, f"{own} imports {wrong}"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_a_package_file_holds_no_code_but_names() -> None:
    for path in SOURCE.rglob("__init__.py"):
        if path != PACKAGE:
            body = ast.parse(path.read_text(encoding="utf-8")).body
            kinds = {type(node) for node in body if not isinstance(node, ast.Expr)}
            assert kinds <= {ast.ImportFrom, ast.Assign}, path
