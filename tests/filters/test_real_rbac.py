"""Rules on a real Envoy: verdicts, and which metadata names the policy that decided."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from isthmus.filters.rbac import ALLOW, AUDIT, DENY, Allow, Audit, Deny, NamedRule, verdict_log_fields
from isthmus.filters.router import ROUTER, Router
from isthmus.model.match import Exact, PathTemplate, Prefix, wildcard
from isthmus.model.predicate import (
    AnyOf,
    Header,
    Host,
    Method,
    Not,
    Path,
    RemoteIp,
    SourceIp,
    all_of,
)

from .running import Web, running

pytestmark = pytest.mark.real

_EVERYONE, _LOOPBACK = ip_network("0.0.0.0/0"), ip_network("127.0.0.0/8")
_RULES = {
    "method": Method(Exact("GET")),
    "header-present": Header("x-a", wildcard("*")),
    "header-prefix": Header("x-a", wildcard("v1*")),
    "header-suffix": Header("x-a", wildcard("*.0")),
    "header-not": Not(Header("x-a", wildcard("v1"))),
    "host": Host(wildcard("*.Example.com", ignore_case=True)),
    "host-header": Header("host", wildcard("api.example.com")),
    "source": SourceIp(_LOOPBACK),
    "source-else": Not(SourceIp(_LOOPBACK)),
    "remote": RemoteIp(ip_network("203.0.113.0/24")),
    "either": AnyOf((Method(Exact("PUT")), Header("x-a", Exact("yes")), SourceIp(ip_network("10.0.0.0/8")))),
}
_CASES = [
    ("method", "GET", {}, True),
    ("method", "POST", {}, False),
    ("header-present", "GET", {"x-a": "1"}, True),
    ("header-present", "GET", {"x-a": ""}, False),
    ("header-present", "GET", {}, False),
    ("header-prefix", "GET", {"x-a": "v1.2"}, True),
    ("header-prefix", "GET", {"x-a": "V1.2"}, False),
    ("header-suffix", "GET", {"x-a": "v1.0"}, True),
    ("header-suffix", "GET", {"x-a": "v1.0.1"}, False),
    ("header-not", "GET", {"x-a": "v2"}, True),
    ("header-not", "GET", {}, True),
    ("header-not", "GET", {"x-a": "v1"}, False),
    ("host", "GET", {"host": "API.example.COM"}, True),
    ("host", "GET", {"host": "example.com"}, False),
    ("host-header", "GET", {"host": "api.example.com"}, True),
    ("host-header", "GET", {"host": "b.example.com"}, False),
    ("source", "GET", {}, True),
    ("source", "GET", {"x-forwarded-for": "203.0.113.7"}, True),
    ("source-else", "GET", {"x-forwarded-for": "203.0.113.7"}, False),
    ("remote", "GET", {"x-forwarded-for": "203.0.113.7"}, True),
    ("remote", "GET", {"x-forwarded-for": "198.51.100.7"}, False),
    ("remote", "GET", {}, False),
    ("either", "PUT", {}, True),
    ("either", "GET", {"x-a": "yes"}, True),
    ("either", "GET", {}, False),
]


def _rule(name, predicate):
    return NamedRule(name, predicate)


@pytest.fixture(scope="module")
def envoy(tmp_path_factory):
    rules = tuple(_rule(name, all_of(Path(Exact(f"/{name}")), predicate)) for name, predicate in _RULES.items())
    template = _rule("template", Path(PathTemplate("/users/{*}/orders/{**}")))
    chain = [
        *AUDIT.build(Audit((_rule("audit", Path(Prefix("/secret"))),))),
        *DENY.build(Deny((_rule("deny", Path(Prefix("/deny"))),), (_rule("dry-deny", Path(Prefix("/dry"))),))),
        *ALLOW.build(
            Allow(
                (_rule("allow", Path(Prefix("/secret"))), _rule("dry", Path(Prefix("/dry")))),
                (_rule("dry-allow", Path(Prefix("/dry/yes"))),),
            )
        ),
    ]
    log = {**verdict_log_fields(), "case": "%REQ(:PATH)%", "details": "%RESPONSE_CODE_DETAILS%"}
    router = ROUTER.build(Router())
    webs = [
        Web("table", [*ALLOW.build(Allow((*rules, template))), *router]),
        Web("table-deny", [*DENY.build(Deny((*rules, template))), *router]),
        Web("verdicts", [*chain, *router], log=log),
        Web("nobody", [*ALLOW.build(Allow(())), *router]),
        Web("everybody", [*ALLOW.build(Allow(None, (template,))), *DENY.build(Deny((), (template,))), *router]),
    ]
    with running(tmp_path_factory.mktemp("rbac"), webs) as started:
        yield started


@pytest.mark.parametrize(("rule", "method", "headers", "matches"), _CASES)
def test_a_rule_allows_what_it_matches_and_denies_the_same(envoy, rule, method, headers, matches):
    assert envoy.get("table", f"/{rule}", method, headers=headers).status_code == (200 if matches else 403)
    assert envoy.get("table-deny", f"/{rule}", method, headers=headers).status_code == (403 if matches else 200)


def test_every_rule_has_cases_of_both_kinds():
    one_sided = {"source", "source-else"}  # every client of the tests is on loopback
    for rule in _RULES.keys() - one_sided:
        assert {matches for name, _, _, matches in _CASES if name == rule} == {True, False}


@pytest.mark.parametrize(
    ("path", "matches"),
    [
        ("/users/u1/orders/2/lines", True),
        ("/users/u1/orders/", True),
        ("/users/u1/orders", False),
        ("/users/u1/x/orders/2", False),
        ("/users//orders/2", False),
        ("/users/u1/orders/?x=/../..", True),
        ("/method?x=1", True),
        ("/method/", False),
        ("/METHOD", False),
    ],
)
def test_paths_match_without_their_query(envoy, path, matches):
    assert envoy.get("table", path).status_code == (200 if matches else 403)


def test_no_rules_allow_nobody_and_dry_runs_refuse_nobody(envoy):
    assert envoy.get("nobody").status_code == 403
    assert envoy.get("everybody").status_code == 200
    assert envoy.get("everybody", "/users/u1/orders/2").status_code == 200


def test_the_log_names_the_policy_that_decided(envoy):
    for path, status in (("/secret", 200), ("/deny", 403), ("/dry/yes", 200), ("/dry/no", 200), ("/none", 403)):
        assert envoy.get("verdicts", path).status_code == status
    log = envoy.logged("/secret", "/deny", "/dry/yes", "/dry/no", "/none")

    def told(path, *fields):
        return tuple(log[path][field] for field in fields)

    assert told("/secret", "audit_policy", "deny_policy", "allow_policy", "allow_result") == (
        "audit",
        None,
        "allow",
        "allowed",
    )
    assert told("/deny", "audit_policy", "deny_policy", "allow_policy", "allow_result") == (None, "deny", None, None)
    assert log["/deny"]["details"] == "rbac_access_denied_matched_policy[deny]"
    assert told("/none", "deny_policy", "allow_policy", "allow_result") == (None, None, "denied")
    assert log["/none"]["details"] == "rbac_access_denied_matched_policy[none]"
    dry = ("dry_run_deny_policy", "dry_run_deny_result", "dry_run_allow_policy", "dry_run_allow_result")
    assert told("/dry/yes", *dry) == ("dry-deny", "denied", "dry-allow", "allowed")
    assert told("/dry/no", *dry) == ("dry-deny", "denied", None, "denied")
    assert told("/secret", *dry) == (None, "allowed", None, "denied")
