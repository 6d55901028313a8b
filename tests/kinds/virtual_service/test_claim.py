from __future__ import annotations

import pytest

from isthmus.kinds.virtual_service.claim import claim_path, means_claim


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("@request.auth.claims.group", ("group",)),
        ("@request.auth.claims.realm.name", ("realm", "name")),
        ("@request.auth.claims[group]", ("group",)),
        ("@request.auth.claims[realm][name]", ("realm", "name")),
        ("@request.auth.claims[https://example.com/a.b]", ("https://example.com/a.b",)),
        ("@Request.Auth.Claims.Group", ("Group",)),
        ("@request.auth.claims", None),
        ("@request.auth.claims.", None),
        ("@request.auth.claims.a..b", None),
        ("@request.auth.claims[]", None),
        ("@request.auth.claims[a][]", None),
        ("@request.auth.claims[a", None),
        ("@request.auth.claimsgroup", None),
    ],
)
def test_the_names_of_a_claim(name: str, path: tuple[str, ...] | None) -> None:
    assert means_claim(name)
    assert claim_path(name) == path


@pytest.mark.parametrize("name", ["x-group", "request.auth.claims.group", "@request.auth.claim.group"])
def test_headers(name: str) -> None:
    assert not means_claim(name)
