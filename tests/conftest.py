"""Tests keep their token stores apart from the user's."""

import os
import tempfile

os.environ.setdefault("PARIBUS_CACHE", tempfile.mkdtemp(prefix="paribus-tests-"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
