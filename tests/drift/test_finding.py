from __future__ import annotations

import pytest

from isthmus.diag import Code
from isthmus.drift.finding import BOOTSTRAP, CONFIGURATION, STATE, TRUST_STORE, Drift, Kind


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (Kind.LISTENER, CONFIGURATION),
        (Kind.CLUSTER, CONFIGURATION),
        (Kind.ROUTE, CONFIGURATION),
        (Kind.FILTER, CONFIGURATION),
        (Kind.SECRET, TRUST_STORE),
        (Kind.BOOTSTRAP, BOOTSTRAP),
        (Kind.OPTION, BOOTSTRAP),
        (Kind.STATE, STATE),
    ],
)
def test_each_kind_has_a_code(kind: Kind, code: Code) -> None:
    assert kind.code is code


def test_in_words_and_as_json() -> None:
    found = Drift("sidecar~a~b", Kind.SECRET, "ROOTCA", "trusts somebody")
    assert str(found) == "ISM8002 sidecar~a~b: secret ROOTCA: trusts somebody"
    assert str(Drift("p", Kind.LISTENER, "l", "d")).startswith("ISM8001 ")
    assert str(Drift("p", Kind.BOOTSTRAP, "b", "d")).startswith("ISM8003 ")
    assert str(Drift("p", Kind.STATE, "s", "d")).startswith("ISM8004 ")
    assert found.as_json() == {
        "code": "ISM8002",
        "proxy": "sidecar~a~b",
        "machine": "local",
        "kind": "secret",
        "name": "ROOTCA",
        "difference": "trusts somebody",
    }
