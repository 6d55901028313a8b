from __future__ import annotations

from isthmus.model.access import MOST_EXPLAINED, TOKEN, Check, alternatives, explain, of_introspected
from isthmus.model.consumer import CLIENT
from isthmus.model.match import Exact
from isthmus.model.predicate import TRUE, Claim, FilterMetadata, Path, leaves
from tests.access_rule import rule


def test_keys_are_in_order() -> None:
    keys = [check.key for check in Check]
    assert keys == sorted(keys)
    assert keys[0] == "0:no-rule"


def test_claims_of_a_token_that_its_issuer_was_asked_about() -> None:
    asked = of_introspected(Claim(("scope",), Exact("a")))
    found = [(leaf.filter, leaf.path, leaf.listed) for leaf in leaves(asked) if isinstance(leaf, FilterMetadata)]
    assert found == [(CLIENT, ("claims", "scope"), True), (CLIENT, ("claims", "scope"), False)]
    assert of_introspected(TOKEN) == FilterMetadata(CLIENT, ("method",), Exact("introspection"))
    assert of_introspected(Path(Exact("/"))) == Path(Exact("/"))


def test_alternatives() -> None:
    def names(introspection: bool, **written: object) -> list[str]:
        return [one.name for one in alternatives(rule(written), introspection=introspection)]

    assert names(False, scopes=["a"]) == ["rule"]
    assert names(True, scopes=["a"]) == ["rule", "rule-introspected"]
    assert names(True, methods=["GET"]) == ["rule"]
    assert names(True, when="'a' in groups || claims.x == 1") == ["rule", "rule-introspected"]
    two = ["/{a}", "/x/{a}"]
    assert names(False, paths=two, when="params.a == 'x'") == ["rule-way[0]", "rule-way[1]"]


def test_only_what_is_asked_is_explained() -> None:
    def checks(*written: dict[str, object]) -> list[Check]:
        return [check for check, _ in explain([rule(dict(one)) for one in written], introspection=False)]

    assert checks({"methods": ["GET"]}) == [Check.OPERATION, Check.CONDITION]
    assert checks({"scopes": ["a"]}) == [Check.AUTHENTICATED, Check.SCOPES, Check.CONDITION]
    assert checks({"scopes": ["a"]}, {"methods": ["GET"]}) == [Check.AUTHENTICATED, Check.SCOPES, Check.CONDITION]
    assert checks() == [Check.OPERATION, Check.CONDITION]
    many = [rule({"scopes": ["a"]})] * (MOST_EXPLAINED + 1)
    assert explain(many, introspection=False) == ((Check.OPERATION, TRUE),)
