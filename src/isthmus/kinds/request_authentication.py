"""RequestAuthentication: whose tokens a workload takes, and where it looks for them.

A request without a token passes; to demand one is an AuthorizationPolicy's work.
Source: istio.io/api security/v1beta1/{request_authentication,jwt}.proto.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from urllib.parse import urlsplit

from isthmus.config.decode import (
    Reader,
    boolean,
    checked,
    fail,
    list_of,
    narrows,
    optional,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Origin, Place, Report, Severity
from isthmus.errors import JwksUnavailable
from isthmus.kinds.shape.duration import positive_duration
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.selector import Attachable, Selector, scope, selector, warn_unattached
from isthmus.model.key_set import read_key_set
from isthmus.model.mesh import Mesh
from isthmus.model.policy import JwtRule, RequestAuthentication, TokenHeader

NO_RULES = Code(
    "ISM2221",
    Severity.WARNING,
    "RequestAuthentication without rules",
    "without jwtRules no token is looked at: this resource has no effect",
    what="The resource names no issuer.",
    why="It looks like authentication and is none: without a rule, tokens are neither verified nor refused.",
    example="kind: RequestAuthentication\nspec: {selector: {matchLabels: {app: orders}}}",
    fix="Add jwtRules, or take the resource out.",
)

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RESERVED_HEADERS = frozenset(
    ("authorization", "connection", "content-length", "host", "te", "trailer", "transfer-encoding", "upgrade")
)


def _header_problem(name: str) -> str | None:
    return None if _TOKEN.fullmatch(name) else f'"{name}" is not the name of a header'


def _output_header_problem(name: str) -> str | None:
    if name.lower() in _RESERVED_HEADERS:
        return f'the header "{name}" has a meaning of its own and cannot carry a claim'
    return _header_problem(name)


def _empty_problem(value: str) -> str | None:
    return None if value else "an empty string is not possible here"


def _url_problem(value: str) -> str | None:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    return None if good else f'"{value}" is not an http or https URL'


def _jwks_problem(value: str) -> str | None:
    """Envoy refuses the whole listener for a set that it cannot read, and takes keys that no issuer should publish."""
    try:
        read_key_set(value)
    except JwksUnavailable as wrong:
        return f"jwks: {wrong}"
    return None


@dataclass(frozen=True, slots=True)
class FromHeader:
    at: Node
    name: str
    prefix: str


@dataclass(frozen=True, slots=True)
class ClaimToHeader:
    at: Node
    header: str
    claim: str


@dataclass(frozen=True, slots=True)
class JwtRuleSpec:
    at: Node
    issuer: str
    audiences: tuple[str, ...]
    jwks_uri: str | None
    jwks: str | None
    from_headers: tuple[FromHeader, ...]
    from_params: tuple[str, ...]
    from_cookies: tuple[str, ...]
    forward_original_token: bool
    output_payload_to_header: str | None
    output_claim_to_headers: tuple[ClaimToHeader, ...]
    space_delimited_claims: tuple[str, ...]
    timeout: timedelta


@dataclass(frozen=True, slots=True)
class Spec:
    at: Node
    selector: Selector | None
    jwt_rules: tuple[JwtRuleSpec, ...]


_word = checked(text, _empty_problem)
_output_header = checked(text, _output_header_problem)
_from_header = record(FromHeader, required("name", checked(text, _header_problem)), optional("prefix", text, ""))
_claim_to_header = record(ClaimToHeader, required("header", _output_header), required("claim", _word))

CLAIM_TO_HEADERS = list_of(_claim_to_header)

_rule_fields = record(
    JwtRuleSpec,
    required("issuer", _word, note="compared with the claim iss"),
    optional("audiences", list_of(_word), (), note="one of them must be in the claim aud; none: any"),
    optional("jwksUri", checked(text, _url_problem), note="also jwks_uri; without it and jwks: OIDC discovery"),
    optional("jwks", checked(text, _jwks_problem)),
    optional("fromHeaders", list_of(_from_header), ()),
    optional("fromParams", list_of(_word), ()),
    optional("fromCookies", list_of(_word), ()),
    optional("forwardOriginalToken", boolean, False),
    optional("outputPayloadToHeader", _output_header),
    optional("outputClaimToHeaders", CLAIM_TO_HEADERS, (), note="dots in the claim go down nested objects"),
    optional("spaceDelimitedClaims", list_of(_word), (), note="beside scope and permission"),
    optional("timeout", positive_duration, timedelta(seconds=5), note="of fetching the keys"),
)


def _read_rule(node: Node, report: Report) -> JwtRuleSpec:
    """A rule; ``jwks_uri`` is ``jwksUri``, as in Istio's schema."""
    given = [name for name in ("jwksUri", "jwks_uri", "jwks") if (below := node.get(name)) and below.value is not None]
    if len(given) > 1:
        raise fail(report, node.at(given[1]), f"only one of {', '.join(given)} can be given")
    if "jwks_uri" in node.mapping:
        renamed = {"jwks_uri": "jwksUri"}
        node = replace(
            node,
            value={renamed.get(name, name): below for name, below in node.mapping.items() if name != "jwksUri"},
            keys={renamed.get(name, name): source for name, source in node.keys.items() if name != "jwksUri"},
        )
    return _rule_fields.read(node, report)


_rule: Reader[JwtRuleSpec] = Reader(_rule_fields.name, _read_rule, _rule_fields.fields)

spec: Reader[Spec] = record(
    Spec,
    optional("selector", selector),
    narrows("targetRef"),
    narrows("targetRefs"),
    optional("jwtRules", list_of(_rule), ()),
)


def apply(resources: Sequence[Resource[Spec]], mesh: Mesh, report: Report) -> Mesh:
    """Add the policies to the Mesh, in order of loading: those of one workload are merged, never overridden."""
    attachable = Attachable.of(mesh)
    policies: list[RequestAuthentication] = []
    for resource in resources:
        written = resource.spec
        wanted = scope(resource.namespace, written.selector, mesh.settings.root_namespace)
        warn_unattached(resource, wanted, written.selector, attachable, report)
        if not written.jwt_rules:
            report.add(NO_RULES, Place(resource.source, resource.ref))
        rules = tuple(_jwt_rule(rule, resource) for rule in written.jwt_rules)
        policies.append(RequestAuthentication(resource.name, resource.namespace, wanted, rules, resource.origin))
    return replace(mesh, policies=replace(mesh.policies, request=tuple(policies)))


def _jwt_rule(rule: JwtRuleSpec, resource: Resource[Spec]) -> JwtRule:
    return JwtRule(
        issuer=rule.issuer,
        origin=Origin(resource.ref, rule.at.source),
        audiences=rule.audiences,
        jwks_uri=rule.jwks_uri,
        jwks=read_key_set(rule.jwks).text if rule.jwks is not None else None,
        from_headers=tuple(TokenHeader(header.name, header.prefix) for header in rule.from_headers),
        from_params=rule.from_params,
        from_cookies=rule.from_cookies,
        forward_original_token=rule.forward_original_token,
        output_payload_to_header=rule.output_payload_to_header,
        output_claim_to_headers=tuple((output.header, output.claim) for output in rule.output_claim_to_headers),
        space_delimited_claims=rule.space_delimited_claims,
        timeout=rule.timeout,
    )


KIND: Kind[Spec] = Kind(
    name="RequestAuthentication",
    api_versions=("security.istio.io/v1", "security.istio.io/v1beta1"),
    spec=spec,
    apply=apply,
    about="Whose tokens workloads take: a bad token is refused, a missing one is not.",
    security=True,
)
