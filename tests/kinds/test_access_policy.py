from __future__ import annotations

from typing import Any

import pytest
from security_manifest import SHOP, Applied, applied
from tests.access_rule import rule
from tests.cel.test_verdict import NOW

from isthmus.cel.verdict import evaluate
from isthmus.kinds.access_policy import KIND
from isthmus.kinds.access_policy.template import path_problem
from isthmus.model.access import AccessPolicy, Check
from isthmus.model.attachment import Specificity
from isthmus.model.facts import Facts
from isthmus.model.mesh import Mesh

HEAD = """\
apiVersion: isthmus.dev/v1alpha1
kind: AccessPolicy
metadata: {name: p, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
"""


def policy(rules: str, mesh: Mesh = SHOP) -> Applied:
    """``rules`` begins on line 6."""
    return applied(KIND, HEAD + rules, mesh)


def only(found: Applied) -> AccessPolicy:
    assert found.found == []
    (policy,) = found.mesh.policies.access
    return policy


def test_a_policy() -> None:
    found = only(policy("  rules:\n  - {name: read, methods: [GET]}\n  - {methods: [PUT]}"))
    assert [one.name for one in found.rules] == ["ns[shop]-policy[p]-rule[read]", "ns[shop]-policy[p]-rule[1]"]
    assert found.attachment.at_proxy(("shop",), {"app": "orders"}) is Specificity.LABELS


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (
            "  rules:\n  - when: claims.sub == user",
            "7:25 error ISM2350 spec.rules[0].when: undeclared reference to 'user'",
        ),
        (
            "  rules:\n  - when: 'claims.sub == user'",
            "7:26 error ISM2350 spec.rules[0].when: undeclared reference to 'user'",
        ),
        (
            "  rules:\n  - when: |\n      has(claims.x) &&\n        claims.roles.exists(r, r == 'a')",
            "9:28 error ISM2350 spec.rules[0].when: exists, all, map and filter are not evaluated in the proxy; "
            "ask for one element with: 'x' in claims.roles",
        ),
        (
            "  rules:\n  - when: path.matches('a(?=b)')",
            "7:24 error ISM2350 spec.rules[0].when: no regular expression of RE2: it has no lookaround",
        ),
        (
            '  rules:\n  - paths: ["/u/{user}", /v]\n    when: claims.sub == params.user',
            '8:31 error ISM2351 spec.rules[0].when: there is no params.user in the path "/v"; write {user} there',
        ),
        (
            '  rules:\n  - paths: ["/u/{id}"]\n    when: claims.sub == params.user',
            '8:31 error ISM2351 spec.rules[0].when: there is no params.user in the path "/u/{id}" (it has id)',
        ),
        (
            "  rules:\n  - when: claims.sub == params.user",
            '7:31 error ISM2351 spec.rules[0].when: there is no params.user in the path "(any)"; write {user} there',
        ),
        (
            "  rules:\n  - when: claims.role == 'a' && claims.role == 'b'",
            "7:11 warning ISM2352 spec.rules[0].when: this condition is false of every request: "
            "it asks one value to be two different things at once",
        ),
        (
            "  rules:\n  - name: all",
            "7:5 warning ISM2353 spec.rules[0]: this rule asks for nothing: every request passes the policy",
        ),
        (
            "  rules:\n  - when: \"claims.a == 1 || consumer == 'acme'\"",
            '7:41 warning ISM2450 spec.rules[0].when: consumer is never "acme": it is namespace/name',
        ),
        ("  rules: []", "1:1 warning ISM2354 : a policy without rules refuses every request"),
        (
            "  rules:\n  - {name: a, methods: [GET]}\n  - {name: a, methods: [PUT]}",
            '8:12 warning ISM2355 spec.rules[1].name: another rule of this policy is called "a"',
        ),
        (
            "  rules:\n  - principals: [other.example/ns/a/sa/b]",
            '7:18 warning ISM2234 spec.rules[0].principals[0]: "other.example/ns/a/sa/b": the mesh\'s trust domain is '
            '"cluster.local", a peer of "other.example" is never let in',
        ),
    ],
)
def test_what_is_said_and_where(rules: str, told: str) -> None:
    assert policy(rules).found == [told]


@pytest.mark.parametrize(
    "rule",
    [
        *("methods: [get]", "methods: []", "scopes: ['a b']", "consumers: ['a/b/c']", "name: 'a]b'", "groups: ['']"),
        *("principals: ['spiffe://a/ns/b/sa/c']", "serviceAccounts: ['a*']", "namespaces: [a b]", "when: ''"),
        *("hosts: ['a:80']", "hosts: ['*']", "hosts: ['a*']", "ports: [0]", "ports: ['80']"),
        *("serviceAccounts: [a], namespaces: [b]", "paths: [users]", "paths: ['/a/{b', '/c']", "paths: ['/{**}/a']"),
    ],
)
def test_what_never_matches_is_refused(rule: str) -> None:
    found = policy(f"  rules: [{{{rule}}}]")
    assert found.mesh.policies.access == ()
    assert all(" error " in one for one in found.found)


@pytest.mark.parametrize(
    ("path", "good"),
    [
        *(("/a", True), ("/a*", True), ("*.pdf", True), ("*", True), ("/{a}/{b}", True), ("/a/{*}/{**}", True)),
        *(("", False), ("a", False), ("/a*b*", False), ("/{a}/{a}", False), ("/{a}.json", False), ("/{1}", False)),
    ],
)
def test_paths(path: str, good: bool) -> None:
    assert (path_problem(path) is None) is good


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        *(
            ("/u/alice/o", True),
            ("/u/bob/o", False),
            ("/u/alice/o/", False),
            ("/u/alice/o/7", True),
            ("/v/alice", True),
        ),
        *(("/u/alice;x/o", False), ("/u/alic%65/o", False), ("/u/alice\\..\\bob/o", False), ("/u//o", False)),
        *(("/u/alice/o/..", False), ("/u/alice/o/.", False), ("/u/alice/o/..;", False), ("/u/alice/o/a.b", True)),
    ],
)
def test_a_parameter_is_a_plain_segment(path: str, allowed: bool) -> None:
    written = {"paths": ["/u/{user}/o", "/u/{user}/o/{id}", "/v/{user}"], "when": "claims.sub == params.user"}
    made = rule(written)
    assert len(made.ways) == 1, "user is the same segment in all of them"
    facts = Facts(path=path, claims={"iss": "a", "sub": "alice"})
    assert evaluate([made], facts, NOW).allowed is allowed


def test_a_parameter_that_is_another_segment_elsewhere() -> None:
    made = rule({"paths": ["/u/{user}", "/o/{id}/{user}"], "when": "claims.sub == params.user"})
    assert len(made.ways) == 2
    for path, allowed in (("/u/alice", True), ("/o/1/alice", True), ("/o/alice/1", False), ("/u/bob", False)):
        facts = Facts(path=path, claims={"iss": "a", "sub": "alice"})
        assert evaluate([made], facts, NOW).allowed is allowed, path


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ({"methods": ["GET"]}, []),
        ({"scopes": ["a"]}, [Check.AUTHENTICATED, Check.CLIENT, Check.SCOPES]),
        ({"serviceAccounts": ["a"], "groups": ["g"]}, [Check.AUTHENTICATED, Check.PEER, Check.GROUPS]),
        ({"consumers": ["a"]}, [Check.AUTHENTICATED, Check.CLIENT]),
        ({"when": "claims.a == 1 && source.namespace == 'x'"}, [Check.AUTHENTICATED, Check.PEER, Check.CLIENT]),
        ({"when": "claims.a == 1 || method == 'GET'"}, []),
    ],
)
def test_the_checks_of_a_rule(written: dict[str, Any], asked: list[Check]) -> None:
    assert [check for check, _ in rule(written).checks] == asked


def test_conditions_are_compiled_once() -> None:
    first = policy("  rules:\n  - when: claims.a == 1 && claims.b == 2 && has(claims.b)")
    (way,) = only(first).rules[0].ways
    assert way.condition is not None
    assert (way.condition.text, way.condition.absent) == ("claims.a == 1 && claims.b == 2 && has(claims.b)", ("a",))
