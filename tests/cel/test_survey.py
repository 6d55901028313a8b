from __future__ import annotations

import pytest

from isthmus.cel.language import Checked, check
from isthmus.cel.survey import Survey, patterns, survey


def surveyed(text: str) -> Survey:
    checked = check(text)
    assert isinstance(checked, Checked), checked
    return survey(checked)


def test_what_is_asked_for() -> None:
    found = surveyed(
        "claims.a.b == params['user'] && has(claims.c) && 'd' in claims && int(query.n) > 1 && headers['X-A'] == plan"
    )
    assert found.faults == ()
    assert found.names("claims") == {"a", "c", "d"}
    assert {one.name for one in found.accesses if one.tested} == {"c", "d"}
    assert (found.names("params"), found.names("query"), found.names("headers")) == ({"user"}, {"n"}, {"X-A"})
    assert found.variables == {"plan"}
    assert found.asks_token


def test_groups_scopes_and_the_rest() -> None:
    found = surveyed("'a' in groups && method in ['GET'] && source.namespace == 'x'")
    assert (found.faults, found.asks_token) == ((), False)
    assert found.variables == {"method", "source.namespace"}
    assert surveyed("'w' in scopes").asks_token


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("claims.roles.exists(r, r == 'a')", "exists, all, map and filter are not evaluated in the proxy"),
        ("[1, 2].all(x, x > 0)", "exists, all, map"),
        ("claims == {}", "claims is asked for by the name of one entry"),
        ("params[claims.sub] == 'x'", "params is asked for by the name of one entry"),
        ("size(groups) > 1", "groups can only be asked whether one is among them"),
        ("groups in [['a']]", "groups can only be asked"),
        ("has(params.user)", "params.user is always there"),
        ("headers['host'] == 'x'", '"host" is no header here'),
        ("headers[':path'] == 'x'", '":path" is no header here'),
        ("headers['a b'] == 'x'", '"a b" is not the name of a header'),
        ("query['a&b'] == 'x'", '"a&b": the name of a query parameter'),
        ("[1] + [2] == [1, 2]", "lists are not joined"),
        ("method.charAt(0) == 'G'", "the proxy has no function charAt"),
        ("method.matches(claims.pattern)", "the pattern of matches() stands in the text itself"),
        ("google.protobuf.Duration{seconds: 1} == duration('1s')", "there are no messages"),
    ],
)
def test_what_the_proxy_could_not_answer(text: str, message: str) -> None:
    (fault,) = surveyed(text).faults
    assert fault.message.startswith(message)


def test_patterns() -> None:
    checked = check("path.matches('/a.*') && matches(method, 'G')")
    assert isinstance(checked, Checked)
    assert [pattern for _, pattern in patterns(checked.expr)] == ["/a.*", "G"]
