"""What a condition says of one request, without Envoy: the same tree, evaluated by the same engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from isthmus.cel.attribute import JWT_METADATA, JWT_PAYLOAD, PEER_STATE
from isthmus.envoy_api.packages import expr_v1alpha1, protobuf
from isthmus.model.access import AccessRule, Alternative, Check, alternatives, explain
from isthmus.model.facts import Facts, holds

_VARIABLES = dict.fromkeys(("request", "metadata", "filter_state"), cel.Type.DYN)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``rule``: the name of one that lets the request in; None: none does, for ``reason``."""

    rule: str | None
    reason: Check | None = None

    @property
    def allowed(self) -> bool:
        return self.rule is not None


def evaluate(rules: Sequence[AccessRule], facts: Facts, now: datetime, *, introspection: bool = False) -> Verdict:
    """What the rules that hold at a place make of a request, as the proxy does there. ``now``: aware."""
    each = (one for rule in rules for one in alternatives(rule, introspection=introspection))
    # By name: that is the order in which the proxy asks them.
    for one in sorted(each, key=lambda one: one.name):
        if _lets_in(one, facts, now):
            return Verdict(one.name)
    missed = (check for check, missed in explain(rules, introspection=introspection) if holds(missed, facts))
    return Verdict(None, next(missed, Check.CONDITION))


def _lets_in(one: Alternative, facts: Facts, now: datetime) -> bool:
    return holds(one.predicate, facts) and (one.expression is None or is_true(one.expression, facts, now))


def is_true(expression: bytes, facts: Facts, now: datetime) -> bool:
    """Whether a serialised ``Expr`` over Envoy's attributes is true; an error is not. ``now``: aware."""
    try:
        found = _evaluable(expression).eval(data=_attributes(facts, now)).value()
    except RuntimeError:
        return False
    return found is True


@cache
def _environment() -> Any:
    return cel.NewEnv(variables=_VARIABLES, extensions=[ext_strings.ExtStrings()])


@lru_cache(maxsize=4096)
def _evaluable(expression: bytes) -> Any:
    parsed = expr_v1alpha1.ParsedExpr(expr=expr_v1alpha1.Expr.FromString(expression))
    packed = protobuf.Any(type_url="type.googleapis.com/cel.expr.ParsedExpr", value=parsed.SerializeToString())
    return _environment().deserialize(packed.SerializeToString())


def _attributes(facts: Facts, now: datetime) -> Mapping[str, object]:
    path, _, query = facts.path.partition("?")
    time = protobuf.Timestamp()
    time.FromDatetime(now)
    request = {
        "method": facts.method,
        "path": facts.path,
        "url_path": path,
        "query": query,
        "host": facts.host,
        "headers": dict(facts.headers),
        "time": time,
    }
    metadata = {name: _as_struct(value) for name, value in facts.metadata.items()}
    if facts.claims is not None:
        metadata[JWT_METADATA] = {JWT_PAYLOAD: _as_struct(facts.claims)}
    state = {} if facts.peer is None else {PEER_STATE: facts.peer.encode()}
    return {"request": request, "metadata": {"filter_metadata": metadata}, "filter_state": state}


def _as_struct(value: object) -> object:
    """As google.protobuf.Struct keeps it: every number is a double."""
    if isinstance(value, Mapping):
        return {key: _as_struct(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_as_struct(one) for one in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
