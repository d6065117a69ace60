"""Visibility rules from the user's own Python file, named in a study as `FILE.py:FUNCTION`."""

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from paribus.errors import StudyError
from paribus.spec.model import OWN_RULE
from paribus.spec.own_rules import content_hash


@lru_cache(maxsize=256)
def own_rule(name: str) -> Callable[[Any], Any]:
    """The function that `name`, `FILE.py:FUNCTION`, points to; loaded once per process.

    Raises StudyError in one line if the file is not there, has changed since the study named it, fails, or has no such function.
    """
    match = OWN_RULE.fullmatch(name)
    if match is None:
        raise StudyError(f"model.input_attention = {name!r}: no such rule")
    file, function = Path(match["file"]).expanduser(), match["function"]
    found = content_hash(file)
    if match["hash"] and match["hash"] != found:
        raise StudyError(
            f"{file}: has changed since the study was planned; put it back, or run the study in another --out"
        )
    specification = importlib.util.spec_from_file_location(f"paribus_own_rule_{found}", file)
    if specification is None or specification.loader is None:
        raise StudyError(f"{file}: is no Python file")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script that ends itself would end the study, as if all were done
        raise StudyError(f"{file}: fails when it is loaded ({type(error).__name__}: {error})") from error
    chosen = getattr(module, function, None)
    if not callable(chosen):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise StudyError(f"{file}: has no function {function!r}; it has {', '.join(names) or 'none'}")
    rule: Callable[[Any], Any] = chosen
    return rule
