"""Whether this machine lets us make network namespaces: tests of them are skipped where it does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from isthmus.proxy.namespace import redirection_refusal, refusal

WHY_NOT = asyncio.run(refusal(Path("/tmp")))
needs_namespaces = pytest.mark.skipif(WHY_NOT is not None, reason=f"no network namespaces here: {WHY_NOT}")

WHY_NO_REDIRECTION = WHY_NOT or asyncio.run(redirection_refusal())
needs_redirection = pytest.mark.skipif(
    WHY_NO_REDIRECTION is not None, reason=f"connections cannot be redirected here: {WHY_NO_REDIRECTION}"
)
