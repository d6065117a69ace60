"""Doors: by one decorated function or class a part enters paribus, ours and a user's alike.

The decorator carries the part's name and its facts, the docstring its description. A door knows its parts by reading the
decorators as text, so that `paribus list`, the schema and the checks of a study execute nothing and wait for no library; the
code of a part is loaded when it is used.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from paribus.errors import StudyError
from paribus.own_code import DENIED, OWN, Code, is_own, short_name

PLUGINS = "paribus.plugins"
"""The group of entry points by which an installed package offers parts: `KIND.NAME = "package.module:object"`."""

_ROOT = Path(__file__).parent
_OF_A_PACKAGE = "a part of an installed package is executed only by commands that train, or with --allow-code"

F = TypeVar("F", bound="Facts")
Part = TypeVar("Part", bound=Callable[..., Any])


@dataclass(frozen=True)
class Facts:
    """What others must know of a part: literals only, so that they can be read without executing anything."""


@dataclass(frozen=True)
class Entry(Generic[F]):
    """A part that came in by a door."""

    kind: str
    name: str
    """As a study file says it."""
    symbol: str
    """Its name in the code."""
    origin: str
    """The module that has it; of own code the file."""
    description: str
    """Its docstring."""
    facts: F

    @property
    def line(self) -> str:
        """Its description in a line."""
        return " ".join(self.description.partition("\n\n")[0].split())


class Door(Generic[F]):
    """One kind of part, such as visibility rules: its built-in entries, and the way in for others."""

    def __init__(self, kind: str, facts: type[F], *modules: str, what: str) -> None:
        """`modules`: dotted names below `paribus` whose decorated parts are built in; `what`: what a part is, in words."""
        self.kind, self.what, self._facts, self._modules = kind, what, facts, modules

    def __call__(self, name: str, **facts: Any) -> Callable[[Part], Part]:
        """Decorate a part with its name and facts. Raises TypeError for a fact that this kind does not have."""
        self._checked(facts)

        def keep(part: Part) -> Part:
            return part

        return keep

    def _checked(self, facts: Mapping[str, Any]) -> F:
        known = [each.name for each in fields(self._facts)]
        if wrong := [name for name in facts if name not in known]:
            raise TypeError(f"@{self.kind} has no fact {wrong[0]!r}; it has {', '.join(known)}")
        return self._facts(**facts)

    @cached_property
    def built_in(self) -> Mapping[str, Entry[F]]:
        """The parts of paribus itself, by name, in the order in which they are written."""
        found: dict[str, Entry[F]] = {}
        for module in self._modules:
            path = _ROOT / f"{module.replace('.', '/')}.py"
            for entry in self._catalogue(path.read_text(encoding="utf-8"), f"paribus.{module}"):
                found[entry.name] = entry
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the built-in parts, then those that installed packages offer."""
        return (*self.built_in, *(name for name in self._offered() if name not in self.built_in))

    def has(self, name: str) -> bool:
        """Whether there is a part of that name, or the name is that of own code."""
        return name in self.built_in or is_own(name) or name in self._offered()

    def entry(self, name: str, code: Code = DENIED) -> Entry[F]:
        """What is known of a part without executing it; own code without a decorator has the default facts.

        Raises StudyError where there is none, or where its file is not there. `code` only says where copies of own code lie.
        """
        if name in self.built_in:
            return self.built_in[name]
        if is_own(name):
            return self._own(name, code)
        if name in self._offered():
            return self._installed(name)
        raise StudyError(f"{name!r}: no such {self.kind}; there are {', '.join(self.names)}")

    def load(self, name: str, code: Code = DENIED) -> Any:
        """The function or class itself. Raises StudyError where there is none, or where it is not built in and that is denied."""
        if is_own(name):
            return code.load(name)
        entry = self.entry(name)
        if name not in self.built_in and not code.allowed:
            raise StudyError(f"{name!r}: {_OF_A_PACKAGE}")
        try:
            return getattr(import_module(entry.origin), entry.symbol)
        except ImportError as error:
            raise StudyError(f"{name!r}: {self.kind} cannot be loaded from {entry.origin}: {error}") from error

    def _own(self, name: str, code: Code) -> Entry[F]:
        own = OWN.fullmatch(name)
        assert own is not None
        content = next(iter(code.bundle(name).values())).decode("utf-8", errors="replace")
        for entry in self._catalogue(content, own["file"]):
            if entry.symbol == own["name"]:
                return entry
        for node in ast.parse(content).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == own["name"]:
                text = ast.get_docstring(node) or ""
                return Entry(self.kind, short_name(name), own["name"], own["file"], text, self._facts())
        # A name that is assigned, such as the result of a call, is found when it is loaded.
        return Entry(self.kind, short_name(name), own["name"], own["file"], "", self._facts())

    def _offered(self) -> dict[str, Any]:
        """What installed packages offer for this door, by name; nothing of them is imported."""
        prefix = f"{self.kind}."
        points = entry_points(group=PLUGINS)
        return {point.name.removeprefix(prefix): point for point in points if point.name.startswith(prefix)}

    def _installed(self, name: str) -> Entry[F]:
        module, _, symbol = self._offered()[name].value.partition(":")
        for entry in self._catalogue(_source(module), module):
            if entry.symbol == symbol:
                return Entry(self.kind, name, symbol, module, entry.description, entry.facts)
        return Entry(self.kind, name, symbol, module, "", self._facts())

    def _catalogue(self, source: str, origin: str) -> list[Entry[F]]:
        """The parts of a source that are decorated for this door, read as text."""
        found = []
        for node in ast.parse(source).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            for call in node.decorator_list:
                if not (isinstance(call, ast.Call) and self._is_ours(call.func)):
                    continue
                try:
                    name = ast.literal_eval(call.args[0])
                    facts = {item.arg: ast.literal_eval(item.value) for item in call.keywords if item.arg}
                    entry = Entry(
                        self.kind, name, node.name, origin, ast.get_docstring(node) or "", self._checked(facts)
                    )
                except (ValueError, TypeError, IndexError) as error:
                    raise StudyError(
                        f"{origin}: {node.name}: {error}; @{self.kind} takes a name, and literals for its facts"
                    ) from error
                found.append(entry)
        return found

    def _is_ours(self, called: ast.expr) -> bool:
        """`@rule(...)`, or `@doors.rule(...)`."""
        own = self.kind.replace("-", "_").replace(" ", "_")
        return (isinstance(called, ast.Name) and called.id == own) or (
            isinstance(called, ast.Attribute) and called.attr == own
        )


def _source(module: str) -> str:
    """The text of an installed module, found without importing it or a package that holds it."""
    found, path = None, None
    for count in range(1, module.count(".") + 2):
        found = PathFinder.find_spec(".".join(module.split(".")[:count]), path)
        path = found.submodule_search_locations if found else []
    if found is None or found.origin is None:
        raise StudyError(f"{module}: an installed package offers a part of it, and has no such module")
    return Path(found.origin).read_text(encoding="utf-8")
