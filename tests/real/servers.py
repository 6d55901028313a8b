"""Other people's servers that tests talk to: nginx, PostgreSQL, Prometheus, as the distribution ships them."""

from __future__ import annotations

import os
import shutil
from glob import glob
from pathlib import Path

import pytest

_PLACES = ("/usr/sbin", "/usr/local/sbin")


def find_server(name: str, *places: str) -> Path:
    """The program ``name``, on PATH or in ``places`` (globs). Without it the test is skipped.

    With ISTHMUS_TEST_SERVERS=required it fails instead, so that a run that is meant to be whole cannot shrink unseen.
    """
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    for place in (*places, *_PLACES):
        for folder in sorted(glob(place), reverse=True):
            if os.access(Path(folder) / name, os.X_OK):
                return Path(folder) / name
    if os.environ.get("ISTHMUS_TEST_SERVERS") == "required":
        pytest.fail(f"{name} is not installed, and this run needs it")
    pytest.skip(f"{name} is not installed")
