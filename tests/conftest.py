"""Tests keep their token stores apart from the user's, and run side by side, one thread each."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

OWN_CACHE = "PARIBUS_CACHE" not in os.environ
# Processes that tests are spread over inherit both: one store for all, built once behind its lock.
if OWN_CACHE:
    os.environ["PARIBUS_CACHE"] = tempfile.mkdtemp(prefix="paribus-tests-")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share a fixture of their file in one process, so that it is built once; the others go anywhere."""
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
        used = [fixtures[name][-1] for name in item.fixturenames if name in fixtures]  # type: ignore[attr-defined]
        if any(fixture.scope != "function" and fixture.baseid for fixture in used):
            item.add_marker(pytest.mark.xdist_group(Path(item.path).stem))


def pytest_unconfigure() -> None:
    """Remove the store, in the process that made it."""
    if OWN_CACHE:
        shutil.rmtree(os.environ["PARIBUS_CACHE"], ignore_errors=True)
