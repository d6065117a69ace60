"""Tests keep their token stores apart from the user's, and run side by side, one thread each."""

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

OWN_CACHE = "PARIBUS_CACHE" not in os.environ
# Processes that tests are spread over inherit both: one store for all, built once behind its lock.
if OWN_CACHE:
    os.environ["PARIBUS_CACHE"] = tempfile.mkdtemp(prefix="paribus-tests-")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@cache
def shares_fixtures(file: str) -> bool:
    """Whether tests of a file share a fixture that is built once for all of them."""
    return "scope=" in (Path(__file__).parents[1] / file).read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Keep a file whose tests share a fixture in one process; tests of other files go anywhere."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFixtures(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if shares_fixtures(file) else nodeid

    return ByFixtures(config, log)


def pytest_unconfigure() -> None:
    """Remove the store, in the process that made it."""
    if OWN_CACHE:
        shutil.rmtree(os.environ["PARIBUS_CACHE"], ignore_errors=True)
