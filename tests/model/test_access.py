from __future__ import annotations

from isthmus.model.access import TOKEN, Check, alternatives, explain, of_introspected
from isthmus.model.consumer import CLIENT
from isthmus.model.match import Exact
from isthmus.model.predicate import TRUE, Claim, Destination, FilterMetadata, Method, Path, leaves
from tests.access_rule import rule


def test_keys_are_in_order() -> None:
    keys = [check.key for check in Check]
    assert sorted(keys) == [keys[-1], *keys[:-1]]
    assert (keys[0], keys[-1]) == ("1:no-rule", "0:condition-not-met")


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

    assert checks({"methods": ["GET"]}) == [Check.CONDITION, Check.OPERATION]
    asked = [Check.CONDITION, Check.AUTHENTICATED, Check.CLIENT, Check.SCOPES]
    assert checks({"scopes": ["a"]}) == asked
    assert checks({"scopes": ["a"]}, {"methods": ["GET"]}) == asked
    assert checks({"groups": ["a"]}) == [Check.CONDITION, Check.AUTHENTICATED, Check.GROUPS]
    assert checks() == [Check.OPERATION]
    assert checks({"when": "method == 'GET'"}) == [Check.CONDITION]


def test_the_last_that_can_be_the_reason_is_it_without_asking() -> None:
    explained = explain([rule({"scopes": ["a"]})] * 100, introspection=False)
    assert explained[-1] == (Check.SCOPES, TRUE)
    assert all(len(leaves(missed)) < 10 for _, missed in explained), "what many rules ask alike is asked once"


def test_a_rule_of_a_port_is_there_at_that_port_alone() -> None:
    written = rule({"ports": [80, 443], "methods": ["GET"]})
    bound = written.at(Destination(443), issuers=1)
    assert bound is not None
    assert leaves(bound.operation) == (Method(Exact("GET")),)
    assert written.at(Destination(8080), issuers=1) is None
    anywhere = rule({"methods": ["GET"]})
    assert anywhere.at(Destination(1), issuers=2) is anywhere


def test_groups_are_nobodys_among_several_issuers() -> None:
    def groups(taken: int, **written: object) -> set[type]:
        found = rule(written).at(Destination(80), issuers=taken)
        assert found is not None
        return {type(leaf) for check, asked in found.checks if check is Check.GROUPS for leaf in leaves(asked)}

    assert groups(1, groups=["g"]) == {Claim, FilterMetadata}
    assert groups(2, groups=["g"]) == {FilterMetadata}, "the consumer's"
    assert groups(2, groups=["g"], issuers=["https://a"]) == {Claim, FilterMetadata}
    assert groups(2, groups=["g"], when="claims.iss == 'https://a' && claims.x == 1") == {Claim, FilterMetadata}
    assert [rule(one).whoever_says for one in ({"scopes": ["a"]}, {"methods": ["GET"]})] == [True, False]
    condition = rule({"when": "'g' in groups"})
    closed = condition.at(Destination(80), issuers=2)
    assert closed is not None
    assert closed.ways != condition.ways
