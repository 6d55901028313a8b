"""Random predicates, judged by a real Envoy: what ``model.facts.holds`` says is what RBAC does."""

from __future__ import annotations

import http.client
import json
import re
import tempfile
from pathlib import Path as Folder

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.envoy_api.packages import core_v3, rbac_config_v3, rbac_v3
from isthmus.filters.filter import http_filter
from isthmus.filters.rbac import METADATA, NamedRule, build_rules
from isthmus.filters.router import ROUTER, Router
from isthmus.model.facts import Facts, holds
from isthmus.model.match import Contains, Exact, PathTemplate, Prefix, Present, Regex, Suffix
from isthmus.model.predicate import All, AnyOf, Header, Host, Method, Not, Path, PathAndQuery

from .running import Web, answer, running

pytestmark = pytest.mark.real

_WORDS = st.text("abA-", min_size=0, max_size=3)
_PATHS = st.text("ab/A.", min_size=0, max_size=5).map(lambda rest: f"/{rest}")
_METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"])
_HOSTS = st.sampled_from(["a", "A", "ab", "a.b", "b.a", "a.B:80", "b-a"])


def _matches(values):
    return st.one_of(
        st.builds(Exact, values, st.booleans()),
        st.builds(Prefix, values, st.booleans()),
        st.builds(Suffix, values, st.booleans()),
        st.builds(Contains, values, st.booleans()),
        st.sampled_from([Regex("a.*b"), Regex("[ab/]+"), Regex("/?a?"), Present()]),
    )


_TEMPLATES = st.sampled_from(
    [PathTemplate("/{*}"), PathTemplate("/a/{*}"), PathTemplate("/{**}"), PathTemplate("/{*}/b")]
)
_LEAVES = st.one_of(
    st.builds(Method, _matches(_METHODS)),
    st.builds(Host, _matches(_HOSTS)),
    st.builds(Path, st.one_of(_matches(_PATHS), _TEMPLATES)),
    st.builds(PathAndQuery, st.one_of(_matches(_PATHS), st.just(Regex(r"/[ab]*\?a=.*")))),
    st.builds(Header, st.sampled_from(["x-a", "x-b"]), _matches(_WORDS)),
)
_PREDICATES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, max_size=3).map(lambda parts: All(tuple(parts))),
        st.lists(inner, max_size=3).map(lambda parts: AnyOf(tuple(parts))),
    ),
    max_leaves=6,
)
_REQUESTS = st.builds(
    Facts,
    method=_METHODS,
    path=st.builds(lambda path, query: path + query, _PATHS, st.sampled_from(["", "?", "?a=b/a"])),
    host=_HOSTS,
    headers=st.dictionaries(st.sampled_from(["x-a", "x-b"]), _WORDS),
)


def _shadow(index, predicate):
    rules = build_rules(rbac_config_v3.RBAC.ALLOW, [NamedRule("rule", predicate)])
    return http_filter(f"rbac.{index}", rbac_v3.RBAC(shadow_rules=rules, shadow_rules_stat_prefix=f"p{index}_"))


def _told_by(connection, facts):
    """Each predicate's verdict on one request, which a response header carries."""
    connection.putrequest(facts.method, facts.path, skip_host=True, skip_accept_encoding=True)
    connection.putheader("host", facts.host)
    for name, value in facts.headers.items():
        connection.putheader(name, value)
    connection.putheader("content-length", "0")
    connection.endheaders()
    response = connection.getresponse()
    response.read()
    assert response.status == 200, facts
    metadata = json.loads(response.headers["x-verdicts"])
    found = {}
    for key, value in metadata.items():
        if number := re.fullmatch(r"p(\d+)_shadow_engine_result", key):
            found[int(number[1])] = value == "allowed"
    return found


@given(
    st.lists(_PREDICATES, min_size=60, max_size=60, unique=True),
    st.lists(_REQUESTS, min_size=40, max_size=40, unique_by=repr),
)
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), derandomize=False)
def test_envoys_rbac_and_the_model_agree(predicates, requests):
    route = answer("/")
    header = core_v3.HeaderValue(key="x-verdicts", value=f"%DYNAMIC_METADATA({METADATA})%")
    route.response_headers_to_add.append(core_v3.HeaderValueOption(header=header))
    filters = [*(_shadow(*numbered) for numbered in enumerate(predicates)), *ROUTER.build(Router())]
    with tempfile.TemporaryDirectory() as folder, running(Folder(folder), [Web("web", filters, [route])]) as envoy:
        connection = http.client.HTTPConnection("127.0.0.1", envoy.ports["web"], timeout=10)
        try:
            for facts in requests:
                told = _told_by(connection, facts)
                assert len(told) == len(predicates)
                for index, predicate in enumerate(predicates):
                    assert told[index] == holds(predicate, facts), (predicate, facts)
        finally:
            connection.close()
