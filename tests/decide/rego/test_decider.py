from __future__ import annotations

from typing import Any

import pytest

from isthmus.decide.rego.decider import Active, Checked, Decider
from isthmus.decide.rego.engine import compile_policy
from isthmus.decide.rego.source import Module, Policy
from tests.decide.rego.test_input import request

YES, NO = "default allow := true", "default allow := false"


def active(name: str, text: str, *, dry_run: bool = False) -> Active:
    source = Policy(name, (Module("p.rego", f"package p\n{text}"),))
    return Active(name, "p/allow", dry_run, source, compile_policy(source, ("p/allow",)))


def checked(*policies: Active, ask: tuple[str, ...] | None = None, asked: Any = None) -> Checked:
    decider = Decider(lambda: 3.0)
    decider.policies = {one.name: one for one in policies}
    return decider.check(ask if ask is not None else tuple(decider.policies), asked or request("/a"))


def reason(found: Checked) -> str | None:
    return dict(found.response.dynamic_metadata).get("reason")


def test_all_must_allow_and_the_first_that_does_not_answers() -> None:
    assert reason(checked(active("a", YES), active("b", YES))) is None
    found = checked(active("a", YES), active("b", NO), active("c", YES))
    assert reason(found) == "rego-denied"
    assert [(one.policy, one.result) for one in found.decisions] == [("a", True), ("b", False)]
    assert len({one.decision_id for one in found.decisions}) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("allow if input.x", "rego-undefined"),
        ("allow := 1\nallow := 2", "rego-error"),
        ('allow := "yes"', "rego-error"),
    ],
)
def test_no_decision_is_a_denial(text: str, why: str) -> None:
    assert reason(checked(active("a", text))) == why


def test_nobody_to_ask_is_a_denial() -> None:
    assert reason(checked(active("a", YES), ask=())) == "rego-error"
    assert reason(checked(active("a", YES), ask=("b",))) == "rego-error"
    assert reason(checked(Active("a", "p/allow"))) == "rego-error"


def test_a_request_that_cannot_be_read_is_a_denial() -> None:
    found = checked(active("a", YES), asked=request("/%zz"))
    assert reason(found) == "rego-error"
    assert (found.decisions[0].input, found.decisions[0].error) == (None, "the path has an escape that is none")


def test_a_dry_run_decides_and_refuses_nobody() -> None:
    found = checked(active("a", NO, dry_run=True))
    assert reason(found) is None
    assert found.decisions[0].result is False


def test_no_repr_shows_what_a_client_sent() -> None:
    found = checked(active("a", YES), asked=request("/secret"))
    assert "secret" not in repr(found.decisions[0])
