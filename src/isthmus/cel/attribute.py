"""Our variables as Envoy's attributes: what a condition becomes before it is sent to a proxy.

Source: Envoy, intro/arch_overview/advanced/attributes. What is not there is an error, and an error is never true:
``||`` and ``&&`` look past one if the other side decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from isthmus.cel.expression import (
    CHOICE,
    IN,
    OR,
    PLUS,
    Expr,
    call,
    ident,
    index,
    is_call,
    kind,
    nothing,
    number,
    numbered,
    select,
    text,
)
from isthmus.cel.survey import Access, access
from isthmus.envoy_api.packages import expr_v1alpha1
from isthmus.model.consumer import CLIENT

JWT_METADATA, JWT_PAYLOAD, PEER_STATE = "envoy.filters.http.jwt_authn", "payload", "isthmus.peer"
"""Where the filters leave what they verified; a test holds them to the filters' own names."""


class Token(Enum):
    """Whose claims are meant: of a token that Envoy verified, or that its issuer told us of (RFC 7662)."""

    JWT = "jwt"
    INTROSPECTED = "introspected"


@dataclass(frozen=True, slots=True)
class Binding:
    """What the meaning of the variables depends on."""

    trust_domains: tuple[str, ...]
    """The mesh's own: in others, namespaces and service accounts are other people's."""
    segments: Mapping[str, int]
    """The path's parameters: which segment each is, the first after the leading slash being 1."""
    token: Token = Token.JWT
    token_groups: bool = True
    """Whether ``groups`` are those of the token's claim, too; else the consumer's alone."""


def bind(expr: Expr, binding: Binding) -> Expr:
    """``expr`` over Envoy's attributes. It must be without faults (``survey``)."""
    return numbered(_bound(expr, binding))


def _bound(expr: Expr, binding: Binding) -> Expr:
    found = access(expr)
    if found is not None:
        return _entry(found, binding)
    match kind(expr):
        case "ident_expr":
            return _variable(expr.ident_expr.name, binding)
        case "select_expr":
            chosen = expr.select_expr
            return select(_bound(chosen.operand, binding), chosen.field, test=chosen.test_only)
        case "list_expr":
            elements = [_bound(one, binding) for one in expr.list_expr.elements]
            return expr_v1alpha1.Expr(list_expr=expr_v1alpha1.Expr.CreateList(elements=elements))
        case "struct_expr":
            return _map(expr, binding)
        case "call_expr":
            return _call(expr, binding)
    return expr_v1alpha1.Expr(const_expr=expr.const_expr)


def _map(expr: Expr, binding: Binding) -> Expr:
    entry = expr_v1alpha1.Expr.CreateStruct.Entry
    entries = [
        entry(id=one.id, map_key=_bound(one.map_key, binding), value=_bound(one.value, binding))
        for one in expr.struct_expr.entries
    ]
    return expr_v1alpha1.Expr(struct_expr=expr_v1alpha1.Expr.CreateStruct(entries=entries))


def _call(expr: Expr, binding: Binding) -> Expr:
    called = expr.call_expr
    if is_call(expr, IN) and _is_groups(called.args[1]):
        wanted = _bound(called.args[0], binding)
        if not binding.token_groups:
            return call(IN, wanted, _client("groups"))
        return call(OR, call(IN, wanted, select(_claims(binding), "groups")), call(IN, wanted, _client("groups")))
    arguments = (_bound(one, binding) for one in called.args)
    target = _bound(called.target, binding) if called.HasField("target") else None
    return call(called.function, *arguments, target=target)


def _is_groups(expr: Expr) -> bool:
    return kind(expr) == "ident_expr" and expr.ident_expr.name == "groups"


def _entry(found: Access, binding: Binding) -> Expr:
    match found.variable:
        case "claims" if kind(found.expr) == "select_expr":
            return select(_claims(binding), found.name, test=found.tested)
        case "claims":
            name = text(found.name)
            return call(IN, name, _claims(binding)) if found.tested else index(_claims(binding), name)
        case "params":
            return _part(_request("url_path"), "/", binding.segments[found.name])
        case "headers":
            return _header(found.name.lower(), tested=found.tested)
        case _:
            return _query(found.name, tested=found.tested)


def _variable(name: str, binding: Binding) -> Expr:
    match name:
        case "scopes":
            return select(_claims(binding), "scope")
        case "consumer":
            return call(PLUS, call(PLUS, _client("consumer_namespace"), text("/")), _client("consumer"))
        case "plan":
            # Behind an external provider what nobody has said is null (filters/ext_authz.py), and null != "free".
            return call(PLUS, _client("plan"), text(""))
        case "method":
            return _request("method")
        case "path":
            return _request("url_path")
        case "host":
            return _part(call("lowerAscii", target=_request("host")), ":", 0)
        case "now":
            return _request("time")
    if name.startswith("source."):
        return _source(name.removeprefix("source."), binding)
    # The name of a type (``type(x) == string``).
    return ident(name)


def _request(attribute: str) -> Expr:
    return select(ident("request"), attribute)


def _metadata(namespace: str) -> Expr:
    return index(select(ident("metadata"), "filter_metadata"), text(namespace))


def _claims(binding: Binding) -> Expr:
    if binding.token is Token.INTROSPECTED:
        return _client("claims")
    return select(_metadata(JWT_METADATA), JWT_PAYLOAD)


def _client(key: str) -> Expr:
    return select(_metadata(CLIENT), key)


def _part(value: Expr, separator: str, place: int) -> Expr:
    return index(call("split", text(separator), target=value), number(place))


def _header(name: str, *, tested: bool) -> Expr:
    """Several of one name are one value with commas here, and two values to others: neither is believed."""
    if tested:
        return call(IN, text(name), _request("headers"))
    value = index(_request("headers"), text(name))
    return call(CHOICE, call("contains", text(","), target=value), nothing(), value)


def _query(name: str, *, tested: bool) -> Expr:
    """What stands between ``name=`` and the next ``&``; that nothing else could be meant, the guard sees to."""
    behind = call(PLUS, text("&"), _request("query"))
    if tested:
        return call("contains", text(f"&{name}="), target=behind)
    return _part(_part(behind, f"&{name}=", 1), "&", 0)


def _source(field: str, binding: Binding) -> Expr:
    peer = call("string", index(ident("filter_state"), text(PEER_STATE)))
    match field:
        case "principal":
            return _part(peer, "spiffe://", 1)
        case "trustDomain":
            return _part(peer, "/", 2)
    place = 4 if field == "namespace" else 6
    found = nothing()
    for own in binding.trust_domains:
        ours = call("startsWith", text(f"spiffe://{own}/ns/"), target=peer)
        found = call(CHOICE, ours, _part(peer, "/", place), found)
    return found
