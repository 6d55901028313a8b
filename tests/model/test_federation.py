from __future__ import annotations

import pytest

from isthmus.model.federation import TrustDomains

DOMAINS = TrustDomains(("new", "old"), ("td2",))


def test_own_identities_have_every_name_of_the_trust_domain() -> None:
    assert DOMAINS.in_all_own(["spiffe://old/ns/a/sa/b", "spiffe://td2/x", "a.example.com"]) == (
        "spiffe://new/ns/a/sa/b",
        "spiffe://old/ns/a/sa/b",
        "spiffe://td2/x",
        "a.example.com",
    )


@pytest.mark.parametrize(
    ("identities", "authority"),
    [
        (["spiffe://new/a", "spiffe://old/b"], "new"),
        (["spiffe://td2/a", "spiffe://td2/b"], "td2"),
        (["spiffe://td3/a"], "td3"),
        (["spiffe://td2/a", "spiffe://new/b"], None),
        (["a.example.com"], "new"),
        (["a.example.com", "spiffe://td2/a"], None),
        ([], None),
    ],
)
def test_whose_roots_prove_them(identities: list[str], authority: str | None) -> None:
    assert DOMAINS.authority_of(identities) == authority
