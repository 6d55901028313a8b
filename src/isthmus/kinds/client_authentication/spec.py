"""What a ClientAuthentication looks like: where it holds, and the methods it takes side by side."""

from __future__ import annotations

import re
from dataclasses import dataclass

from isthmus.config.decode import Reader, boolean, checked, fail, list_of, narrows, optional, record, required, text
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.client_authentication.introspection import INTROSPECTION, IntrospectionSpec
from isthmus.kinds.client_authentication.oidc import OIDC, OidcSpec, one_login
from isthmus.kinds.shape.attach import ATTACH_FIELDS, TargetSpec
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.selector import Selector
from isthmus.model.client_authentication import ApiKeyMethod

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_USUAL_HEADER = "x-api-key"
_NOT_OURS = frozenset({"connection", "content-length", "cookie", "host", "te", "transfer-encoding", "upgrade"})


@dataclass(frozen=True, slots=True)
class ApiKeySpec:
    at: Node
    headers: tuple[str, ...]
    query: tuple[str, ...]
    cookies: tuple[str, ...]

    @property
    def value(self) -> ApiKeyMethod:
        """Where nothing is said: the header of everybody's custom."""
        if not (self.headers or self.query or self.cookies):
            return ApiKeyMethod((_USUAL_HEADER,))
        return ApiKeyMethod(tuple(name.lower() for name in self.headers), self.query, self.cookies)


@dataclass(frozen=True, slots=True)
class CertificateSpec:
    at: Node


@dataclass(frozen=True, slots=True)
class JwtSpec:
    at: Node
    issuers: tuple[str, ...]
    bound_to_certificate: bool


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """Exactly one of them is there."""

    at: Node
    api_key: ApiKeySpec | None
    certificate: CertificateSpec | None
    jwt: JwtSpec | None
    introspection: IntrospectionSpec | None
    oidc: OidcSpec | None


@dataclass(frozen=True, slots=True)
class ClientAuthenticationSpec:
    at: Node
    selector: Selector | None
    target_refs: tuple[TargetSpec, ...]
    required: bool
    methods: tuple[MethodSpec, ...]


def _header_problem(name: str) -> str | None:
    if not _TOKEN.fullmatch(name):
        return f'"{name}" is not the name of a header'
    return f'the header "{name}" has a meaning of its own' if name.lower() in _NOT_OURS else None


def _name_problem(name: str) -> str | None:
    return None if _TOKEN.fullmatch(name) else f'"{name}" is not a name here: letters, digits and - . _ ~ alone'


def _issuer_problem(issuer: str) -> str | None:
    return None if issuer.strip() == issuer and issuer else "an issuer is needed, as the claim iss has it"


_NAME = checked(text, _name_problem)

_API_KEY = record(
    ApiKeySpec,
    optional("headers", list_of(checked(text, _header_problem)), (), note="without any place: x-api-key"),
    optional("query", list_of(_NAME), (), note="names of query parameters"),
    optional("cookies", list_of(_NAME), (), note="names of cookies"),
)
_CERTIFICATE = record(CertificateSpec)
_JWT = record(
    JwtSpec,
    required(
        "issuers",
        list_of(checked(text, _issuer_problem), least=1),
        note="of RequestAuthentications in force there: these say where keys and tokens are",
    ),
    optional("boundToCertificate", boolean, False, note="RFC 8705: the token's cnf.x5t#S256 is the TLS client's"),
)


def _one_method(method: MethodSpec, node: Node, report: Report) -> MethodSpec:
    given = [name for name in node.mapping if node.mapping[name].value is not None]
    if len(given) != 1:
        raise fail(report, node, f"exactly one of {', '.join(field.name for field in _METHOD.fields)} is a method")
    return method


_METHOD: Reader[MethodSpec] = record(
    MethodSpec,
    optional("apiKey", _API_KEY, note="keys of the store, isthmus consumer key"),
    optional("certificate", _CERTIFICATE, note="TLS client certificates whose name a Consumer has"),
    optional("jwt", _JWT),
    optional("introspection", INTROSPECTION),
    optional("oidc", OIDC, note="browsers log in at an OpenID provider; at gateways"),
    narrows("basic"),
)


def _one_introspection(methods: tuple[MethodSpec, ...], node: Node, report: Report) -> tuple[MethodSpec, ...]:
    found = [method for method in methods if method.introspection is not None]
    if len(found) > 1:
        wrong = "one introspection, no more: an opaque token does not say whose it is, and only its issuer may see it"
        raise fail(report, found[1].at, wrong)
    one_login([method.oidc for method in methods], [method.certificate for method in methods], report)
    return methods


_METHODS_READER: Reader[tuple[MethodSpec, ...]] = converted(
    list_of(converted(_METHOD, _one_method), least=1), _one_introspection
)
SPEC: Reader[ClientAuthenticationSpec] = record(
    ClientAuthenticationSpec,
    *ATTACH_FIELDS,
    optional("required", boolean, True, note="false: who brings nothing passes; who brings something wrong never"),
    required("methods", _METHODS_READER, note="any one suffices"),
)
