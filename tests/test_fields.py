"""Every field that a kind enforces is shown on real Envoy by a test that says so."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.real.fields import enforced_fields, shown_by

_REAL = Path(__file__).parent / "real"


@pytest.fixture(scope="module")
def shown() -> dict[str, set[str]]:
    """The tests that show a field."""
    found: dict[str, set[str]] = {}
    for file in sorted(_REAL.glob("test_*.py")):
        module = importlib.import_module(f"tests.real.{file.stem}")
        for field, test in shown_by(module):
            found.setdefault(field, set()).add(f"{file.stem}::{test}")
    return found


def test_every_enforced_field_is_shown(shown: dict[str, set[str]]) -> None:
    missing = sorted(enforced_fields() - shown.keys())
    assert not missing, "no test on real Envoy is marked with\n" + "\n".join(missing)


def test_no_test_shows_what_is_not_a_field(shown: dict[str, set[str]]) -> None:
    strange = {field: tests for field, tests in shown.items() if field not in enforced_fields()}
    assert not strange, "not enforced, or misspelt"


def test_the_list_goes_down_to_the_innermost_fields() -> None:
    fields = enforced_fields()
    assert "VirtualService.spec.http[].match[].uri.prefix" in fields
    assert "PeerAuthentication.spec.portLevelMtls.*.mode" in fields
    assert "AuthorizationPolicy.spec.rules[].when[request.headers[NAME]]" in fields
    assert "ConfigMap.data.mesh.extensionProviders[].envoyExtAuthzHttp.pathPrefix" in fields
    assert "RequestAuthentication.spec.targetRefs" not in fields, "refused, not enforced"
