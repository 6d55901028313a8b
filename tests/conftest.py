"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
FIRST = ("real/test_readmes.py", "real/test_tls_scan.py", "real", "serve", "xds")
"""What takes long, the longest first: what is short fills the gaps at the end."""

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("isthmus", deadline=None)
settings.load_profile("isthmus")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers take files in this order."""
    first = [TESTS / name for name in FIRST]

    def place(item: pytest.Item) -> int:
        return next((at for at, path in enumerate(first) if item.path.is_relative_to(path)), len(first))

    items.sort(key=place)
