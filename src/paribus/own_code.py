"""Code from the user's own file, named `FILE.py:NAME`: pinned by what the file holds, and executed only where that is allowed.

A file is taken together with the files beside it that it imports (its bundle). Their bytes are hashed, and these very bytes are
what is executed: a file that changes between the two is noticed. A name that has been pinned ends in `#` and 16 hex digits.
Reading, hashing, cataloguing and copying never execute anything.
"""

import ast
import builtins
import hashlib
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

from paribus.errors import StudyError
from paribus.files import replacing

OWN = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)(#(?P<hash>[0-9a-f]{16}))?")
"""A part of the user's own: `my_parts.py:my_rule`; once read, with a hash of what the file holds."""

Bundle = Mapping[str, bytes]
"""What a file and the files beside it that it imports hold, by path relative to its folder; the file itself comes first."""


def is_own(name: str) -> bool:
    """Whether a name is that of the user's own code."""
    return OWN.fullmatch(name) is not None


def short_name(name: str) -> str:
    """A part as its author knows it: of `FOLDER/FILE.py:NAME#HASH` neither the folder nor the hash; others as they are."""
    own = OWN.fullmatch(name)
    return f"{PurePath(own['file']).name}:{own['name']}" if own else name


def bundle_of(file: Path) -> Bundle:
    """The file and, of its folder, what it imports, directly or through others. Executes nothing.

    Raises StudyError where a file cannot be read, or is no Python.
    """
    found: dict[str, bytes] = {}
    waiting = [PurePath(file.name)]
    while waiting:
        path = waiting.pop(0)
        if str(path) in found:
            continue
        found[str(path)] = _read(file.parent / path)
        waiting += _local_imports(found[str(path)], file.parent / path, file.parent)
    return found


def bundle_hash(bundle: Bundle) -> str:
    """16 hex digits of what a bundle holds: of one file, of its bytes alone."""
    if len(bundle) == 1:
        return hashlib.blake2b(next(iter(bundle.values())), digest_size=8).hexdigest()
    digest = hashlib.blake2b(digest_size=8)
    for path, content in sorted(bundle.items()):
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def pinned(name: str, folder: Path) -> str:
    """An own name with the hash of what its file holds; a file that is not here is looked for in `folder`.

    Names that are no own code, or pinned already, come back as they are. Raises StudyError without a file.
    """
    own = OWN.fullmatch(name)
    if own is None or own["hash"]:
        return name
    if not Path(own["file"]).expanduser().is_file():
        name = beside(name, folder)
        own = OWN.fullmatch(name)
        assert own is not None
    return f"{name}#{bundle_hash(bundle_of(Path(own['file']).expanduser()))}"


def beside(name: str, folder: Path) -> str:
    """An own name with its file's path as seen from here, where the file lies in `folder`."""
    own = OWN.fullmatch(name)
    if own is None:
        return name
    file = folder / Path(own["file"]).expanduser()
    return name.replace(own["file"], str(file), 1) if file.is_file() else name


@dataclass(frozen=True)
class Code:
    """Whether own code may be executed, and where it lies: handed on by commands that train, denied where nobody allowed it."""

    allowed: bool = False
    folders: tuple[Path, ...] = field(default=())
    """Folders with copies of bundles, each below its hash (`code/` of a study's directory), looked in before its own path."""

    def bundle(self, name: str) -> Bundle:
        """What a pinned name's file and its local imports hold, from the copies or from where the name says. Executes nothing.

        Raises StudyError where it is nowhere, or has changed since it was pinned.
        """
        own = OWN.fullmatch(name)
        if own is None:
            raise StudyError(f"{name!r}: no code of your own; write FILE.py:NAME")
        places = [folder / own["hash"] / PurePath(own["file"]).name for folder in self.folders if own["hash"]]
        file = next((place for place in places if place.is_file()), Path(own["file"]).expanduser())
        bundle = bundle_of(file)
        if own["hash"] and bundle_hash(bundle) != own["hash"]:
            raise StudyError(
                f"{file}: has changed since the study was planned; put it back, or run the study in another --out"
            )
        return bundle

    def load(self, name: str) -> Any:
        """The object that an own name points to; its file is executed once per process for each content.

        Raises StudyError in one line if that is not allowed, or the file is not there, has changed, fails or has no such object.
        """
        own = OWN.fullmatch(name)
        if own is None:
            raise StudyError(f"{name!r}: no code of your own; write FILE.py:NAME")
        if not self.allowed:
            raise StudyError(
                f"{short_name(name)}: code of the study's own is executed only by commands that train, or with --allow-code"
            )
        bundle = self.bundle(name)
        module = _executed(own["file"], tuple(bundle.items()))
        found = getattr(module, own["name"], None)
        if not callable(found):
            names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            file = own["file"]
            raise StudyError(f"{file}: has no function or class {own['name']!r}; it has {', '.join(names) or 'none'}")
        return found


DENIED = Code()
"""Executes nothing."""


def copy_bundle(bundle: Bundle, folder: Path) -> None:
    """Write a bundle below `folder` under its hash, where it is not there yet."""
    for path, content in bundle.items():
        place = folder / bundle_hash(bundle) / path
        if not place.exists():
            with replacing(place) as temporary:
                temporary.write_bytes(content)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StudyError(f"{file}: the file of your own code cannot be read: {reason}; put it back there") from error


def _local_imports(content: bytes, file: Path, folder: Path) -> Iterator[PurePath]:
    """The files of `folder` that a file imports by name, packages with every part that is named."""
    try:
        tree = ast.parse(content, filename=str(file))
    except (SyntaxError, ValueError) as error:
        raise StudyError(f"{file}: is no Python that can be read ({error})") from error
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            for count in range(1, len(parts) + 1):
                path = PurePath(*parts[:count])
                for place in (path.with_suffix(".py"), path / "__init__.py"):
                    if (folder / place).is_file():
                        yield place


@lru_cache(maxsize=256)
def _executed(file: str, bundle: tuple[tuple[str, bytes], ...]) -> types.ModuleType:
    """The module of a bundle's first file. What it imports of its bundle are modules of that bundle alone."""
    return _Modules(Path(file).expanduser().parent, dict(bundle)).module(bundle[0][0])


class _Modules:
    """The modules of one bundle: nothing of them enters `sys.modules`, so that two files of one name stay apart."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        self._folder, self._bundle = folder, bundle
        self._known: dict[str, types.ModuleType] = {}

    def module(self, path: str) -> types.ModuleType:
        """The module of a file, executed once."""
        if path in self._known:
            return self._known[path]
        module = types.ModuleType(PurePath(path).stem)
        module.__file__ = str(self._folder / path)
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
        self._known[path] = module
        try:
            exec(compile(self._bundle[path], module.__file__, "exec"), module.__dict__)
        except StudyError:
            raise
        except (Exception, SystemExit) as error:  # a script that ends itself would end the study, as if all were done
            raise StudyError(f"{module.__file__}: fails when it is loaded ({type(error).__name__}: {error})") from error
        return module

    def _path(self, name: str) -> str | None:
        path = PurePath(*name.split("."))
        places = (str(path.with_suffix(".py")), str(path / "__init__.py"))
        return next((place for place in places if place in self._bundle), None)

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: tuple[str, ...] | None = (),
        level: int = 0,
    ) -> Any:
        """As Python's own `__import__`, with the bundle's files before all others."""
        if level or self._path(name.partition(".")[0]) is None:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        parts = name.split(".")
        chain = [self._whole(".".join(parts[:count])) for count in range(1, len(parts) + 1)]
        for parent, child, part in zip(chain, chain[1:], parts[1:], strict=False):
            setattr(parent, part, child)
        for each in fromlist or ():
            if not hasattr(chain[-1], each) and self._path(f"{name}.{each}"):
                setattr(chain[-1], each, self._whole(f"{name}.{each}"))
        return chain[-1] if fromlist else chain[0]

    def _whole(self, name: str) -> types.ModuleType:
        path = self._path(name)
        if path is None:
            raise ImportError(f"No module named {name!r} beside the study's own code")
        return self.module(path)
