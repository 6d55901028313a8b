from __future__ import annotations

from .bundles import TD, bundle, spiffe, web


def test_whose_bundle_vouches_for_the_endpoint() -> None:
    assert web().endpoint_trust_domain is None
    assert spiffe("https://localhost/", None).endpoint_trust_domain == TD


def test_who_gives_another_anchor_begins_anew() -> None:
    first, second = bundle(), bundle()
    assert web(anchor=first) == web(anchor=first)
    assert web(anchor=first) != web(anchor=second)
