"""The spec of an AccessPolicy, read: values are checked, conditions compiled."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from isthmus.cel.language import Checked, Fault, check
from isthmus.cel.survey import Survey, patterns, survey
from isthmus.config.decode import Reader, Unreadable, fail, list_of, optional, port, record, text
from isthmus.config.node import Node
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.access_policy.template import PathSpec, path_problem, read_path
from isthmus.kinds.authorization_policy import value as values
from isthmus.kinds.shape.attach import ATTACH_FIELDS, TargetSpec
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.regex import regex_problem
from isthmus.kinds.shape.selector import Selector

INVALID_CONDITION = Code(
    "ISM2350",
    Severity.ERROR,
    "Condition that is not valid CEL",
    "{problem}",
    what="The condition of a rule does not parse, its types do not fit, or it asks for what the proxy cannot answer.",
    why="The proxy would refuse the whole policy, or the rule would be false of every request.",
    example='when: "claims.sub == user"   # user is no variable: params.user',
    fix="Correct it at the place that is told. What a condition can speak of stands in the guide to access policies.",
)
UNKNOWN_PARAMETER = Code(
    "ISM2351",
    Severity.ERROR,
    "Path parameter that a path of the rule does not have",
    'there is no params.{name} in the path "{path}"{hint}',
    what="A condition asks for a path parameter that not every path of its rule has.",
    why="Of a request for that path the condition has no value.",
    example='paths: ["/users/{id}"]\nwhen: "claims.sub == params.user"',
    fix="Name the segment so in every path of the rule, or write two rules.",
)

_METHOD = re.compile(r"[A-Z][A-Z-]*\*?|\*")
_HOST = re.compile(r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_NAMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_KEYED = re.compile(r"(?:[A-Za-z0-9.-]+/)?[A-Za-z0-9.-]+")


@dataclass(frozen=True, slots=True)
class Written:
    """One value of a list."""

    text: str
    at: Node


@dataclass(frozen=True, slots=True)
class PathWritten:
    text: str
    at: Node
    path: PathSpec


@dataclass(frozen=True, slots=True, eq=False)
class ConditionSpec:
    at: Node
    checked: Checked
    survey: Survey


Values = tuple[Written, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RuleSpec:
    """Compared as an object: a document that has not changed is the same object, and so are its rules."""

    at: Node
    name: str | None
    methods: Values
    paths: tuple[PathWritten, ...]
    hosts: Values
    ports: tuple[int, ...]
    principals: Values
    service_accounts: Values
    namespaces: Values
    consumers: Values
    groups: Values
    plans: Values
    issuers: Values
    scopes: Values
    when: ConditionSpec | None


@dataclass(frozen=True, slots=True)
class Spec:
    at: Node
    selector: Selector | None
    target_refs: tuple[TargetSpec, ...]
    rules: tuple[RuleSpec, ...]


def _no_problem(value: str) -> str | None:
    return None if value else "an empty value is not possible here"


def _method_problem(value: str) -> str | None:
    return None if _METHOD.fullmatch(value) else f'"{value}" never matches: methods are in capitals, such as GET'


def _host_problem(value: str) -> str | None:
    if _HOST.fullmatch(value):
        return None
    return f'"{value}" is not written "shop.example.com" or "*.example.com"; a port stands under ports'


def _consumer_problem(value: str) -> str | None:
    return None if _KEYED.fullmatch(value) else f'"{value}" is not written "consumer" or "namespace/consumer"'


def _scope_problem(value: str) -> str | None:
    # RFC 6749, section 3.3: scopes are divided by blanks.
    if not value or " " in value:
        return f'"{value}" never matches: no scope is empty or has a blank; write each by itself'
    return None


def _values(problem: Callable[[str], str | None]) -> Reader[Values]:
    def read(node: Node, report: Report) -> Written:
        written = text.read(node, report)
        wrong = problem(written)
        if wrong is not None:
            raise fail(report, node, wrong)
        return Written(written, node)

    return list_of(Reader(text.name, read), least=1)


def _path(node: Node, report: Report) -> PathWritten:
    written = text.read(node, report)
    problem = path_problem(written)
    if problem is not None:
        raise fail(report, node, problem)
    return PathWritten(written, node, read_path(written))


def _condition(written: str, node: Node, report: Report) -> ConditionSpec:
    checked = check(written)
    if isinstance(checked, Fault):
        raise _invalid(report, node, checked)
    found = survey(checked)
    faults = [*found.faults, *_pattern_faults(checked)]
    for fault in faults:
        _invalid(report, node, fault)
    if faults:
        raise Unreadable
    return ConditionSpec(node, checked, found)


def _pattern_faults(checked: Checked) -> list[Fault]:
    found = ((expr, regex_problem(pattern)) for expr, pattern in patterns(checked.expr))
    return [checked.fault(expr, f"no regular expression of RE2: {problem}") for expr, problem in found if problem]


def _invalid(report: Report, node: Node, fault: Fault) -> Unreadable:
    report.add(INVALID_CONDITION, node.inside(fault.line, fault.column), problem=fault.message)
    return Unreadable()


def _name(written: str, node: Node, report: Report) -> str:
    if not _NAMED.fullmatch(written):
        raise fail(report, node, f'"{written}": the name of a rule is of letters, digits, and - . _')
    return written


def _whole(rule: RuleSpec, node: Node, report: Report) -> RuleSpec:
    if rule.service_accounts and (rule.principals or rule.namespaces):
        raise fail(report, node, "serviceAccounts cannot stand beside principals or namespaces")
    if rule.when is None:
        return rule
    wanted = sorted(rule.when.survey.names("params"))
    paths = [(one.text, one.path.segments) for one in rule.paths] or [("(any)", {})]
    missing = [(name, path, known) for name in wanted for path, known in paths if name not in known]
    for name, path, known in missing:
        hint = f" (it has {', '.join(known)})" if known else "; write {" + name + "} there"
        at = next(one for one in rule.when.survey.accesses if (one.variable, one.name) == ("params", name))
        fault = rule.when.checked.fault(at.expr, "")
        report.add(UNKNOWN_PARAMETER, rule.when.at.inside(fault.line, fault.column), name=name, path=path, hint=hint)
    if missing:
        raise Unreadable
    return rule


_PEERS = "workloads; written as in AuthorizationPolicy"
_rule: Reader[RuleSpec] = converted(
    record(
        RuleSpec,
        optional("name", converted(text, _name), note="for logs; without one, its number"),
        optional("methods", _values(_method_problem), ()),
        optional("paths", list_of(Reader(text.name, _path), least=1), (), note="/a/{name}: params.name in `when`"),
        optional("hosts", _values(_host_problem), (), note="any of them: shop.example.com or *.example.com, no port"),
        optional("ports", list_of(port, least=1), (), note="any of them: of the gateway's server, or the workload's"),
        optional("principals", _values(values.principal_problem), (), note=_PEERS),
        optional("serviceAccounts", _values(values.service_account_problem), (), note=_PEERS),
        optional("namespaces", _values(values.namespace_problem), (), note=_PEERS),
        optional("consumers", _values(_consumer_problem), (), note="any of them: name, or namespace/name"),
        optional("groups", _values(_no_problem), (), note="any of them: of the consumer, or the token's claim groups"),
        optional("plans", _values(_no_problem), (), note="any of them: of the consumer"),
        optional("issuers", _values(_no_problem), (), note="any of them: of the token"),
        optional("scopes", _values(_scope_problem), (), note="all of them: of the token"),
        optional("when", converted(text, _condition), note="a condition in CEL"),
    ),
    _whole,
)

spec: Reader[Spec] = record(Spec, *ATTACH_FIELDS, optional("rules", list_of(_rule), ()))
