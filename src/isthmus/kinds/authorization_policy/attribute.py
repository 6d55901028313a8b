"""What a rule can ask about: the fields of ``source`` and ``operation`` and the keys of ``when``.

Source: istio.io/docs/reference/config/security/conditions; istio.io/api security/v1beta1/authorization_policy.proto.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass

from isthmus.kinds.authorization_policy import value as values
from isthmus.kinds.authorization_policy.value import Context
from isthmus.model.match import wildcard
from isthmus.model.predicate import (
    Claim,
    DestinationIp,
    FilterMetadata,
    Header,
    Host,
    Method,
    Predicate,
    RemoteIp,
    Sni,
    SourceIp,
)


@dataclass(frozen=True, slots=True)
class Attribute:
    """``problem`` says what is wrong with a value, or None; ``predicate`` what a good value means."""

    name: str
    problem: Callable[[str], str | None]
    predicate: Callable[[str, Context], Predicate]
    stars: Callable[[str], bool] | None = None
    """Whether a value has a ``*`` that is a plain character; None: ``problem`` has seen to it."""
    most: int | None = None
    """How many values there can be."""


SOURCE_IP = Attribute("source.ip", values.address_problem, lambda value, _: SourceIp(values.network(value)))
REMOTE_IP = Attribute("remote.ip", values.address_problem, lambda value, _: RemoteIp(values.network(value)))
SOURCE_NAMESPACE = Attribute("source.namespace", values.namespace_problem, values.source_namespace)
SOURCE_PRINCIPAL = Attribute("source.principal", values.principal_problem, values.principal)
SOURCE_SERVICE_ACCOUNT = Attribute(
    "source.serviceAccount", values.service_account_problem, values.service_account, most=16
)
SOURCE_TRUST_DOMAIN = Attribute("source.trustDomain", values.trust_domain_problem, values.trust_domain)
REQUEST_PRINCIPAL = Attribute(
    "request.auth.principal", values.request_principal_problem, values.request_principal, stars=values.plain_stars
)
AUDIENCES = Attribute(
    "request.auth.audiences",
    values.no_problem,
    lambda value, _: Claim(("aud",), wildcard(value)),
    stars=values.plain_stars,
)
PRESENTER = Attribute(
    "request.auth.presenter",
    values.no_problem,
    lambda value, _: Claim(("azp",), wildcard(value)),
    stars=values.plain_stars,
)
DESTINATION_IP = Attribute(
    "destination.ip", values.address_problem, lambda value, _: DestinationIp(values.network(value))
)
DESTINATION_PORT = Attribute("destination.port", values.port_problem, values.destination_port)
CONNECTION_SNI = Attribute(
    "connection.sni", values.no_problem, lambda value, _: Sni(wildcard(value)), stars=values.plain_stars
)
HOST = Attribute("host", values.no_problem, values.host, stars=values.plain_stars)
METHOD = Attribute("method", values.no_problem, values.method, stars=values.plain_stars)
PATH = Attribute("path", values.path_problem, values.path, stars=values.plain_stars_in_path)

SOURCE_FIELDS = (
    ("principals", SOURCE_PRINCIPAL),
    ("requestPrincipals", REQUEST_PRINCIPAL),
    ("namespaces", SOURCE_NAMESPACE),
    ("serviceAccounts", SOURCE_SERVICE_ACCOUNT),
    ("trustDomains", SOURCE_TRUST_DOMAIN),
    ("ipBlocks", SOURCE_IP),
    ("remoteIpBlocks", REMOTE_IP),
)
OPERATION_FIELDS = (("hosts", HOST), ("ports", DESTINATION_PORT), ("methods", METHOD), ("paths", PATH))

_PLAIN_KEYS = {
    attribute.name: attribute
    for attribute in (
        SOURCE_IP,
        REMOTE_IP,
        SOURCE_NAMESPACE,
        SOURCE_PRINCIPAL,
        SOURCE_SERVICE_ACCOUNT,
        SOURCE_TRUST_DOMAIN,
        REQUEST_PRINCIPAL,
        AUDIENCES,
        PRESENTER,
        DESTINATION_IP,
        DESTINATION_PORT,
        CONNECTION_SNI,
    )
}
_HEADERS = "request.headers"
_INLINE_HEADERS = "request.experimental.inline.headers"
_CLAIMS = "request.auth.claims"
_FILTERS = "experimental.envoy.filters."
_KEYED = re.compile(r"([^\[\]]+)((?:\[[^\[\]]+\])+)")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REPLACED = {
    "destination.namespace": "the policy's own namespace says it",
    "destination.labels": "the policy's selector says it",
    "destination.name": "the policy's selector says it",
    "destination.user": "the policy's selector says it",
}
KEYS = (*_PLAIN_KEYS, f"{_HEADERS}[NAME]", f"{_INLINE_HEADERS}[NAME]", f"{_CLAIMS}[NAME]", f"{_FILTERS}NAME[KEY]")
"""How the keys of conditions are written."""


def attribute_of(key: str) -> Attribute | str:
    """What the key of a condition asks about; a text says what is wrong with it."""
    plain = _PLAIN_KEYS.get(key)
    if plain is not None:
        return plain
    keyed = _KEYED.fullmatch(key)
    if keyed is not None:
        steps = tuple(keyed[2][1:-1].split("]["))
        if keyed[1] == _CLAIMS:
            return Attribute(
                key, values.no_problem, lambda value, _: Claim(steps, wildcard(value)), stars=values.plain_stars
            )
        if len(steps) == 1 and keyed[1] in (_HEADERS, _INLINE_HEADERS):
            return _header(key, steps[0], inline=keyed[1] == _INLINE_HEADERS)
        if len(steps) == 1 and keyed[1].startswith(_FILTERS) and keyed[1] != _FILTERS:
            return _filter_metadata(key, keyed[1].removeprefix("experimental."), steps)
    return _key_problem(key)


def _key_problem(key: str) -> str:
    base = key.partition("[")[0]
    if base in _REPLACED:
        return f'"{key}" is not a key any more: {_REPLACED[base]}'
    if base in (_HEADERS, _INLINE_HEADERS, _CLAIMS) or base.startswith(_FILTERS):
        form = next(form for form in KEYS if form.startswith(_FILTERS if base.startswith(_FILTERS) else f"{base}["))
        return f'"{key}" is not written {form}'
    close = difflib.get_close_matches(base, {form.partition("[")[0]: form for form in KEYS}, 1)
    hint = next((f' (did you mean "{form}"?)' for form in KEYS if close and form.partition("[")[0] == close[0]), "")
    return f'there is no key "{key}"{hint}'


def _header(key: str, written: str, *, inline: bool) -> Attribute | str:
    name = written.lower()
    if name in (":authority", "host"):
        return Attribute(
            key, values.no_problem, lambda value, _: Host(wildcard(value, ignore_case=True)), stars=values.plain_stars
        )
    if name == ":method":
        return Attribute(key, values.no_problem, lambda value, _: Method(wildcard(value)), stars=values.plain_stars)
    if not _HEADER_NAME.fullmatch(name):
        hint = "; to.operation.paths asks about the path" if name == ":path" else ""
        return f'"{written}" is not the name of a header{hint}'
    if inline:
        return Attribute(
            key, values.no_problem, lambda value, _: values.inline_header(name, value), stars=values.plain_stars
        )
    return Attribute(
        key, values.no_problem, lambda value, _: Header(name, values.header_match(value)), stars=values.plain_stars
    )


def _filter_metadata(key: str, filter_name: str, steps: tuple[str, ...]) -> Attribute:
    def predicate(value: str, _: Context) -> Predicate:
        listed = value.startswith("[") and value.endswith("]")
        return FilterMetadata(filter_name, steps, wildcard(value.strip("[]") if listed else value), listed)

    return Attribute(key, values.no_problem, predicate, stars=values.plain_stars_in_element)
