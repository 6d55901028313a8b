"""Random access rules, judged by a real Envoy: what ``cel.verdict.evaluate`` says is what the filter does, and why."""

from __future__ import annotations

import http.client
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path as Folder
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.cel.verdict import evaluate
from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import (
    core_v3,
    http_set_filter_state_v3,
    protobuf,
    rbac_v3,
    set_filter_state_common_v3,
    set_metadata_v3,
)
from isthmus.filters import jwt_authn
from isthmus.filters.access import ACCESS, ACCESS_REASONS, Access, AccessReasons
from isthmus.filters.filter import http_filter
from isthmus.filters.peer import PEER_STATE
from isthmus.filters.rbac import METADATA
from isthmus.filters.router import ROUTER, Router
from isthmus.model.consumer import CLIENT
from isthmus.model.facts import Facts
from tests.access_rule import rule

from .running import Web, answer, running

pytestmark = pytest.mark.real

_FRONTEND = "spiffe://cluster.local/ns/shop/sa/frontend"
_CALLERS: dict[str, Facts] = {
    "nobody": Facts(),
    "alice": Facts(claims={"iss": "a", "sub": "alice", "scope": ["r", "w"], "groups": ["g"], "n": 3}, peer=_FRONTEND),
    "bob": Facts(claims={"iss": "b", "sub": "bob", "scope": ["r"], "deep": {"x": "1"}, "ok": True}),
    "key": Facts(
        metadata={
            CLIENT: {"method": "api-key", "consumer": "c", "consumer_namespace": "shop", "groups": ["g"], "plan": "p"}
        },
        peer="spiffe://partner.example/ns/shop/sa/frontend",
    ),
    "opaque": Facts(
        metadata={CLIENT: {"method": "introspection", "claims": {"sub": "alice", "scope": ["w"], "n": 7}}},
    ),
}
_ATOMS = (
    *(
        "claims.sub == 'alice'",
        "claims.n >= 3",
        "has(claims.ok)",
        "claims.ok",
        "'ok' in claims",
        "claims.deep.x == '1'",
    ),
    *("'w' in scopes", "'g' in groups", "consumer == 'shop/c'", "plan == 'p'", "method == 'GET'", "path == '/ab'"),
    *("source.namespace == 'shop'", "source.principal.endsWith('/frontend')", "source.trustDomain != 'x'"),
    *("headers['x-a'] == '1'", "'x-a' in headers", "int(query.n) < 5", "has(query.n)", "query.n != ''", "host == 'h'"),
    *(
        "params.user == claims.sub",
        "params.user == 'alice'",
        "now > timestamp('2020-01-01T00:00:00Z')",
        "size(scopes) == 2",
    ),
)
_CONDITIONS = st.recursive(
    st.sampled_from(_ATOMS),
    lambda inner: st.one_of(
        inner.map("!({})".format),
        st.tuples(inner, st.sampled_from(["&&", "||", "=="]), inner).map("({0[0]}) {0[1]} ({0[2]})".format),
        st.tuples(inner, inner, inner).map("({0[0]}) ? ({0[1]}) : ({0[2]})".format),
    ),
    max_leaves=4,
)


def _some(values: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)


@st.composite
def _rules(draw: st.DrawFn) -> dict[str, Any]:
    written: dict[str, Any] = {"paths": draw(st.sampled_from([["/users/{user}", "/{user}/x"], ["/{kind}/{user}"]]))}
    optional = {
        "methods": _some(["GET", "P*"]),
        "hosts": _some(["h", "*.h"]),
        "serviceAccounts": _some(["shop/frontend", "other"]),
        "consumers": _some(["c", "bank/c"]),
        "groups": _some(["g", "h"]),
        "plans": _some(["p", "q"]),
        "issuers": _some(["a", "b"]),
        "scopes": _some(["r", "w"]),
        "when": _CONDITIONS,
    }
    for name in draw(st.lists(st.sampled_from(sorted(optional)), max_size=2, unique=True)):
        written[name] = draw(optional[name])
    if "user" not in written.get("when", "") and draw(st.booleans()):
        written["paths"] = draw(st.sampled_from([["/users/{*}"], ["/users/{**}", "/a*"]]))
    return written


_REQUESTS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "PUT"]),
        "path": st.sampled_from(
            [
                "/users/alice",
                "/users/bob",
                "/users/bob/orders/7",
                "/alice/x",
                "/ab",
                "/users/",
                "/users/a%6cice",
                "/users/alice;x",
                "/users/..",
            ]
        ),
        "query": st.sampled_from(
            ["", "?n=1", "?n=9", "?n=1&n=9", "?N=1", "?n", "?n=%31", "?m=1&n=2", "?x;n=1", "?n[]=1"]
        ),
        "headers": st.sampled_from([{}, {"x-a": "1"}, {"x-a": "1,1"}, {"x-a": ""}]),
        "host": st.sampled_from(["h", "H:80", "other", "a.h", "h.a:80"]),
    }
)


def _told_before(facts: Facts) -> list[Any]:
    """The filters that leave what is known of a caller."""
    found = []
    known: dict[str, Any] = dict(facts.metadata)
    if facts.claims is not None:
        known[jwt_authn.NAME] = {jwt_authn.PAYLOAD: dict(facts.claims)}
    for name, value in known.items():
        told = protobuf.Struct()
        told.update(value)
        entry = set_metadata_v3.Metadata(metadata_namespace=name, value=told)
        found.append(http_filter(f"metadata.{name}", set_metadata_v3.Config(metadata=[entry])))
    if facts.peer is not None:
        text = core_v3.SubstitutionFormatString(text_format_source=core_v3.DataSource(inline_string=facts.peer))
        value = set_filter_state_common_v3.FilterStateValue(
            object_key=PEER_STATE, factory_key="envoy.string", format_string=text
        )
        found.append(http_filter("peer", http_set_filter_state_v3.Config(on_request_headers=[value])))
    return found


def _noting(index: int, rules: Any) -> list[Any]:
    """Filters that note what the filter would do, and refuse nothing: what it enforces, and its explanation."""
    access = Access(rules, introspection=True)
    (decides,), (notes,) = ACCESS.build(access), ACCESS_REASONS.build(AccessReasons(access))
    enforced = rbac_v3.RBAC(shadow_rules=unpack(decides.typed_config).rules, shadow_rules_stat_prefix=f"e{index}_")
    shadow = unpack(notes.typed_config).shadow_rules
    explained = rbac_v3.RBAC(shadow_rules=shadow, shadow_rules_stat_prefix=f"r{index}_")
    return [http_filter(f"e{index}", enforced), http_filter(f"r{index}", explained)]


def _verdicts(port: int, asked: dict[str, Any], count: int) -> list[tuple[str | None, str | None]]:
    """By set of rules: the rule that lets the request in, and the first check that none passed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest(
            asked["method"], asked["path"] + asked["query"], skip_host=True, skip_accept_encoding=True
        )
        for name, value in {"host": asked["host"], **asked["headers"], "content-length": "0"}.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        response.read()
    finally:
        connection.close()
    told = json.loads(response.headers["x-verdicts"])
    found = []
    for index in range(count):
        allowed = told[f"e{index}_shadow_engine_result"] == "allowed"
        key = told.get(f"r{index}_shadow_effective_policy_id")
        found.append((told.get(f"e{index}_shadow_effective_policy_id") if allowed else None, key))
    return found


@given(
    st.lists(st.lists(_rules(), max_size=2), min_size=40, max_size=40),
    st.lists(_REQUESTS, min_size=25, max_size=25, unique_by=repr),
)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), derandomize=False)
def test_envoy_and_the_evaluation_without_it_agree(
    written: list[list[dict[str, Any]]], requests: list[dict[str, Any]]
) -> None:
    policies = [tuple(rule(one, f"rule-{number}") for number, one in enumerate(rules)) for rules in written]
    noting = [each for index, rules in enumerate(policies) for each in _noting(index, rules)]
    route = answer("/")
    header = core_v3.HeaderValue(key="x-verdicts", value=f"%DYNAMIC_METADATA({METADATA})%")
    route.response_headers_to_add.append(core_v3.HeaderValueOption(header=header))
    webs = [
        Web(name, [*_told_before(facts), *noting, *ROUTER.build(Router())], [route]) for name, facts in _CALLERS.items()
    ]
    with tempfile.TemporaryDirectory() as folder, running(Folder(folder), webs) as envoy:
        for name, caller in _CALLERS.items():
            for asked in requests:
                facts = _facts(caller, asked)
                told = _verdicts(envoy.ports[name], asked, len(policies))
                for rules, (allowed_by, missed) in zip(policies, told, strict=True):
                    verdict = evaluate(rules, facts, datetime.now(UTC), introspection=True)
                    assert verdict.rule == allowed_by, (written[policies.index(rules)], facts)
                    if verdict.reason is not None:
                        assert verdict.reason.key == missed, (written[policies.index(rules)], facts)
                    else:
                        assert missed == "0:condition-not-met", "no check is missed by what is let in"


def _facts(caller: Facts, asked: dict[str, Any]) -> Facts:
    return Facts(
        method=asked["method"],
        path=asked["path"] + asked["query"],
        host=asked["host"],
        headers=asked["headers"],
        peer=caller.peer,
        claims=caller.claims,
        metadata=caller.metadata,
    )
