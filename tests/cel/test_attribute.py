from __future__ import annotations

from isthmus.cel.attribute import JWT_METADATA, JWT_PAYLOAD, PEER_STATE, Binding, Token, bind
from isthmus.cel.expression import children, kind
from isthmus.cel.language import FUNCTIONS, VARIABLES, Checked, check
from isthmus.filters import jwt_authn, peer

BINDING = Binding(("cluster.local", "alias.example"), {"user": 2})


def names(text: str, binding: Binding = BINDING) -> tuple[set[str], set[str], set[int]]:
    """The identifiers, the functions and the ids of what it becomes."""
    checked = check(text)
    assert isinstance(checked, Checked)
    todo, idents, functions, ids = [bind(checked.expr, binding)], set(), set(), list[int]()
    while todo:
        part = todo.pop()
        ids.append(part.id)
        todo += children(part)
        if kind(part) == "ident_expr":
            idents.add(part.ident_expr.name)
        if kind(part) == "call_expr":
            functions.add(part.call_expr.function)
    assert len(set(ids)) == len(ids)
    return idents, functions, set(ids)


def test_the_names_are_the_filters_own() -> None:
    assert (JWT_METADATA, JWT_PAYLOAD, PEER_STATE) == (jwt_authn.NAME, jwt_authn.PAYLOAD, peer.PEER_STATE)


def test_no_variable_of_ours_is_left() -> None:
    texts = {
        "claims": "claims.a == 1 || claims['a'] == 1 || has(claims.a) || 'a' in claims",
        "scopes": "'a' in scopes",
        "groups": "'a' in groups",
        "params": "params.user == 'a'",
        "query": "query.a == '1' || has(query.a) || 'a' in query",
        "headers": "headers['a'] == '1' || 'a' in headers",
        "now": "now > timestamp('2020-01-01T00:00:00Z')",
    }
    for name in VARIABLES:
        idents, functions, _ = names(texts.get(name, f"{name} == 'x'"))
        assert idents <= {"request", "metadata", "filter_state"}, name
        assert functions <= FUNCTIONS, name


def test_types_and_literals_stay() -> None:
    idents, _, _ = names("type(claims.a) == string && {'a': [1]}['a'][0] == 1")
    assert idents == {"metadata", "string"}


def test_each_sort_of_token() -> None:
    checked = check("claims.sub == 'a'")
    assert isinstance(checked, Checked)
    jwt = bind(checked.expr, BINDING)
    introspected = bind(checked.expr, Binding(BINDING.trust_domains, BINDING.segments, Token.INTROSPECTED))
    assert (b"jwt_authn" in jwt.SerializeToString(), b"ext_authz" in jwt.SerializeToString()) == (True, False)
    assert b"jwt_authn" not in introspected.SerializeToString()
