"""Where and with what something runs: code, packages, processor. Part of every trial's record, because bits depend on it."""

import hashlib
import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "numpy", "scipy", "tokenizers", "safetensors", "pydantic")
SOURCE = Path(__file__).parents[1]
"""The package's own folder."""
GIT_SECONDS = 20.0


def environment_of(device: str) -> dict[str, Any]:
    """This process's surroundings: code, package versions, Python, system, processor and, on `cuda`, the accelerator."""
    cuda = device == "cuda"
    return {
        "code": code_identity(),
        "packages": {name: version(name) for name in ("paribus", *PACKAGES)},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "accelerator": torch.cuda.get_device_name() if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
    }


@lru_cache
def code_identity() -> dict[str, Any]:
    """Which code runs: `version`; `sources`, a hash of the package's own files; and from a git checkout `commit` and `diff`.

    `diff` is a SHA-256 of what differs from the commit within the package, untracked files included; None where nothing does.
    The answer is that of the first call in a process: later edits do not reach a process that has loaded its code.
    """
    commit = _git("rev-parse", "HEAD") if _git("ls-files", "--error-unmatch", "__init__.py") else None
    changed = None
    if commit:
        changes = (_git("diff", "--binary", "--no-ext-diff", "HEAD", "--", ".") or b"") + _untracked()
        changed = hashlib.sha256(changes).hexdigest() if changes else None
    return {
        "version": version("paribus"),
        "sources": sources_hash(),
        "commit": commit.decode().strip() if commit else None,
        "diff": changed,
    }


def sources_hash() -> str:
    """SHA-256 over names and contents of the files of the installed package, but for compiled ones."""
    digest = hashlib.sha256()
    for path in sorted(SOURCE.rglob("*")):
        name = path.relative_to(SOURCE).as_posix()
        if path.is_file() and "__pycache__" not in name and not path.name.startswith("."):
            content = path.read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _untracked() -> bytes:
    names = (_git("ls-files", "--others", "--exclude-standard", "-z", "--", ".") or b"").split(b"\0")
    parts = [name + b"\0" + (SOURCE / os.fsdecode(name)).read_bytes() for name in sorted(filter(None, names))]
    return b"".join(parts)


def _git(*arguments: str) -> bytes | None:
    """What git says in the package's folder; None where there is no git, no repository, or no answer."""
    try:
        done = subprocess.run(["git", "-C", str(SOURCE), *arguments], capture_output=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def processor() -> str:
    """The name of this machine's processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
