"""The spec of an AuthorizationPolicy, read: values are checked, not yet turned into predicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isthmus.config.decode import (
    INVALID_VALUE,
    MISSING_FIELD,
    Field,
    Reader,
    Unreadable,
    checked,
    enum_of,
    fail,
    list_of,
    narrows,
    optional,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.authorization_policy.attribute import (
    OPERATION_FIELDS,
    SOURCE_FIELDS,
    Attribute,
    attribute_of,
)
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.selector import Selector, selector
from isthmus.model.policy import Action

PLAIN_STAR = Code(
    "ISM2232",
    Severity.WARNING,
    "A * that is a plain character",
    '"{value}": only one * at one end is a wildcard; another one stands for itself',
    what="A value has a * where Istio and Envoy take it as a plain character.",
    why="The rule matches less than it seems to.",
    example="paths: [/api/*/users]",
    fix="In paths, write {*} for one segment; elsewhere list the values.",
)
EMPTY_LIST = Code(
    "ISM2233",
    Severity.WARNING,
    "An empty list restricts nothing",
    'the empty list "{name}" means any, not none: it restricts nothing',
    what="A list of a source or an operation is empty.",
    why="It is easily read as nobody, and lets in everybody.",
    example="- source: {principals: [], namespaces: [shop]}",
    fix="Take the list out, or fill it.",
)


@dataclass(frozen=True, slots=True)
class Value:
    text: str
    at: Node


@dataclass(frozen=True, slots=True)
class Clause:
    """One attribute: one of ``values`` (if there are any) and none of ``not_values``."""

    attribute: Attribute
    values: tuple[Value, ...]
    not_values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Clauses:
    """A source or an operation: every clause holds."""

    at: Node
    clauses: tuple[Clause, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RuleSpec:
    """One of ``sources``, one of ``operations`` (each: if there are any) and every one of ``conditions``.

    Compared as an object: a document that has not changed is the same object, and so are its rules.
    """

    at: Node
    sources: tuple[Clauses, ...]
    operations: tuple[Clauses, ...]
    conditions: tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class Provider:
    at: Node
    name: str


@dataclass(frozen=True, slots=True)
class Spec:
    """``rules`` None: the field is not there."""

    at: Node
    selector: Selector | None
    action: Action
    provider: Provider | None
    rules: tuple[RuleSpec, ...] | None


def _value(attribute: Attribute) -> Reader[Value]:
    def read(node: Node, report: Report) -> Value:
        written = text.read(node, report)
        problem = attribute.problem(written) if written else "an empty value is not possible here"
        if problem is not None:
            raise fail(report, node, problem)
        if attribute.stars is not None and attribute.stars(written):
            report.add(PLAIN_STAR, node, value=written)
        return Value(written, node)

    return Reader(text.name, read)


def _values(attribute: Attribute) -> Reader[tuple[Value, ...]]:
    def check(values: tuple[Value, ...], node: Node, report: Report) -> tuple[Value, ...]:
        if not values:
            report.add(EMPTY_LIST, node, name=node.path.rpartition(".")[2])
        if attribute.most is not None and len(values) > attribute.most:
            raise fail(report, node, f"at most {attribute.most} values are possible")
        return values

    return converted(list_of(_value(attribute)), check)


def _clauses(what: str, fields: tuple[tuple[str, Attribute], ...]) -> Reader[Clauses]:
    """A record with the fields ``x`` and ``notX`` of each attribute."""
    pairs = [
        (optional(name, _values(attribute), ()), optional(_negative(name), _values(attribute), ()), attribute)
        for name, attribute in fields
    ]

    def build(at: Node, **given: tuple[Value, ...]) -> Clauses:
        clauses = (Clause(attribute, given[f.attribute], given[n.attribute]) for f, n, attribute in pairs)
        return Clauses(at, tuple(clause for clause in clauses if clause.values or clause.not_values))

    def not_empty(clauses: Clauses) -> str | None:
        return None if clauses.clauses else f"the {what} is empty: it needs at least one field with a value"

    ordered: list[Field] = [field for positive, negative, _ in pairs for field in (positive, negative)]
    return checked(record(build, *ordered), not_empty)


def _negative(name: str) -> str:
    return f"not{name[0].upper()}{name[1:]}"


def _one_way_to_name_peers(source: Clauses) -> str | None:
    named = {clause.attribute.name for clause in source.clauses}
    if "source.serviceAccount" in named and named & {"source.principal", "source.namespace"}:
        return "serviceAccounts cannot stand beside principals or namespaces"
    return None


@dataclass(frozen=True, slots=True)
class _From:
    at: Node
    source: Clauses


@dataclass(frozen=True, slots=True)
class _To:
    at: Node
    operation: Clauses


@dataclass(frozen=True, slots=True)
class _Condition:
    """``values`` are checked only when the key is known, which says what they are."""

    at: Node
    key: Attribute
    values: tuple[str, ...]
    not_values: tuple[str, ...]


def _read_key(node: Node, report: Report) -> Attribute:
    found = attribute_of(text.read(node, report))
    if isinstance(found, str):
        raise fail(report, node, found)
    return found


def _by_key(condition: _Condition, node: Node, report: Report) -> Clause:
    reader = _values(condition.key)
    values, not_values = (
        reader.read(below, report) if (below := node.get(name)) is not None and below.value is not None else ()
        for name in ("values", "notValues")
    )
    if not values and not not_values:
        raise fail(report, node, "at least one of values, notValues is needed")
    return Clause(condition.key, values, not_values)


def _build_rule(at: Node, **given: Any) -> RuleSpec:
    sources: tuple[_From, ...] = given["from"] or ()
    operations: tuple[_To, ...] = given["to"] or ()
    return RuleSpec(
        at,
        tuple(each.source for each in sources),
        tuple(each.operation for each in operations),
        given["when"],
    )


_source = checked(_clauses("source", SOURCE_FIELDS), _one_way_to_name_peers)
_operation = _clauses("operation", OPERATION_FIELDS)
_condition: Reader[Clause] = converted(
    record(
        _Condition,
        required("key", Reader("a key of a condition", _read_key)),
        optional("values", list_of(text), ()),
        optional("notValues", list_of(text), ()),
    ),
    _by_key,
)
_rule = record(
    _build_rule,
    optional("from", list_of(record(_From, required("source", _source)), least=1)),
    optional("to", list_of(record(_To, required("operation", _operation)), least=1)),
    optional("when", list_of(_condition), ()),
)


def _whole(spec: Spec, node: Node, report: Report) -> Spec:
    """What one field asks of another."""
    broken = False
    if spec.action is Action.CUSTOM and spec.provider is None:
        report.add(MISSING_FIELD, node, name="provider", where=f"{node.path} with the action CUSTOM")
        broken = True
    if spec.action is not Action.CUSTOM and spec.provider is not None:
        reason = f"a provider is asked by the action CUSTOM only, not by {spec.action.value}"
        report.add(INVALID_VALUE, node.key("provider"), reason=reason)
        broken = True
    if spec.rules is None and spec.action in (Action.CUSTOM, Action.DENY):
        reason = f"{spec.action.value} without rules is never triggered; for every request write rules: [{{}}]"
        report.add(INVALID_VALUE, node.at("action"), reason=reason)
        broken = True
    if broken:
        raise Unreadable
    return spec


spec: Reader[Spec] = converted(
    record(
        Spec,
        optional("selector", selector),
        narrows("targetRef"),
        narrows("targetRefs"),
        optional("action", enum_of(Action), Action.ALLOW),
        optional("provider", record(Provider, required("name", text)), note="with the action CUSTOM"),
        optional("rules", list_of(_rule)),
    ),
    _whole,
)
