from __future__ import annotations

from datetime import timedelta

from isthmus.model.attachment import Attachment
from isthmus.model.rego import RegoPolicy
from isthmus.model.settings import RequestBody
from isthmus.xds.rego import rego_filter

from .making import origin


def policy(name: str, seconds: int, body: RequestBody | None = None) -> RegoPolicy:
    return RegoPolicy(name, "shop", Attachment(), origin(), body=body, timeout=timedelta(seconds=seconds))


def test_policies_that_are_equally_specific_are_united() -> None:
    whole, cut = RequestBody(10, False, True), RequestBody(20, True, False)
    found = rego_filter([policy("a", 1, whole), policy("b", 3), policy("c", 2, cut)])
    assert found.policies == ("shop/a", "shop/b", "shop/c")
    assert found.timeout == timedelta(seconds=3)
    assert found.body == RequestBody(20, allow_partial=False, as_bytes=True)


def test_no_policy_asks_nobody() -> None:
    assert rego_filter([]).policies == ()
