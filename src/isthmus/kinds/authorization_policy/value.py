"""One value of an AuthorizationPolicy: whether it is well formed, and what it says as a predicate.

Istio: pilot/pkg/security/authz/model/generator.go and pkg/config/security/security.go. Identities are matched more
strictly than there, where the expressions are not anchored and their dots match anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_network

from isthmus.model.identity import Identity
from isthmus.model.match import Exact, PathTemplate, Prefix, Present, Regex, StringMatch, Suffix, wildcard
from isthmus.model.predicate import (
    Claim,
    DestinationPort,
    Header,
    Host,
    Method,
    Network,
    Path,
    Peer,
    Predicate,
    RequestPrincipal,
    all_of,
    any_of,
)

LOCAL_TRUST_DOMAIN = "cluster.local"
"""In a principal it stands for the mesh's own trust domain, whatever that is (Istio: trustdomain/bundle.go)."""

_NAME = r"[^,/]+"
_MAX_SERVICE_ACCOUNT_LENGTH = 320
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_NAMESPACE = re.compile(r"[A-Za-z0-9._*-]+")
_TRUST_DOMAIN = re.compile(r"\*|\*?[A-Za-z0-9._-]+|[A-Za-z0-9._-]+\*")
_SERVICE_ACCOUNT = re.compile(r"(?:[A-Za-z0-9._-]+/)?[A-Za-z0-9._-]+")
_PATH_LITERAL = re.compile(r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]+")


@dataclass(frozen=True, slots=True)
class Context:
    """What the meaning of a value depends on."""

    trust_domain: str
    namespace: str
    """The policy's."""
    aliases: tuple[str, ...] = ()
    """Other names of the mesh's own trust domain."""
    federated: frozenset[str] = frozenset()
    """Trust domains whose peers are let in beside the mesh's own."""

    @property
    def trust_domains(self) -> tuple[str, ...]:
        return self.trust_domain, *self.aliases


def plain_stars(value: str) -> bool:
    """Whether ``value`` has a ``*`` that is no wildcard: only one, at one end, is."""
    rest = value[1:] if value.startswith("*") else value.removesuffix("*")
    return "*" in rest


def plain_stars_in_path(value: str) -> bool:
    """The same for a path, whose templates have stars of their own."""
    return "{" not in value and plain_stars(value)


def plain_stars_in_element(value: str) -> bool:
    """The same where brackets around a value mean an element of a list."""
    return plain_stars(value.strip("[]"))


def no_problem(value: str) -> str | None:
    return None


def principal_problem(value: str) -> str | None:
    if value.startswith("spiffe://"):
        return f'"{value}" never matches: a principal is written without spiffe://'
    if "," in value:
        return f'"{value}" never matches: no identity has a comma'
    if plain_stars(value):
        return f'"{value}" never matches: a wildcard stands only at one end'
    return None


def principal(value: str, context: Context) -> Predicate:
    """Whoever is named in one of the mesh's trust domains is meant in all of them (Istio: trustdomain/bundle.go)."""
    return any_of(*(Peer(_of_uri(wildcard(form))) for form in _in_every_trust_domain(value, context)))


def _of_uri(match: StringMatch) -> StringMatch:
    return type(match)("spiffe://" + match.value) if isinstance(match, Exact | Prefix) else match


def _in_every_trust_domain(value: str, context: Context) -> tuple[str, ...]:
    """``value`` under each name of the mesh's trust domain, if it is written as Istio does and names one of them.

    As in Istio, ``*`` for the whole trust domain is any; ``*-old`` names those that end so, and stays beside them.
    """
    written, _, rest = value.partition("/")
    ours = context.trust_domains
    if rest.count("/") != 3 or written == "*":
        return (value,)
    named = [name for name in ours if name == written or (written.startswith("*") and name.endswith(written[1:]))]
    if not named and written != LOCAL_TRUST_DOMAIN:
        return (value,)
    forms = (value if name in named else f"{name}/{rest}" for name in ours)
    return tuple(dict.fromkeys(forms))


def foreign_trust_domain(value: str, context: Context) -> str | None:
    """The trust domain that a principal names, if neither the mesh's nor federated: no such peer gets in."""
    trust_domain, slash, rest = value.partition("/")
    if not slash or "*" in trust_domain or trust_domain in (*context.trust_domains, *context.federated):
        return None
    if trust_domain == LOCAL_TRUST_DOMAIN and rest.count("/") == 3:
        return None
    return trust_domain


def namespace_problem(value: str) -> str | None:
    return None if _NAMESPACE.fullmatch(value) else f'"{value}" never matches: it is not the name of a namespace'


def source_namespace(value: str, context: Context) -> Predicate:
    """``*`` is a wildcard wherever it stands, as in Istio. Of the mesh alone: other trust domains name theirs alike."""
    name = "[^,/]*".join(re.escape(part) for part in re.split(r"\*+", value)) if value.strip("*") else _NAME
    domains = "|".join(map(re.escape, context.trust_domains))
    own = f"({domains})" if context.aliases else domains
    return Peer(Regex(f"spiffe://{own}/ns/{name}/sa/{_NAME}"))


def service_account_problem(value: str) -> str | None:
    if "*" in value:
        return f'"{value}": a service account is named in full, a wildcard is not possible'
    if len(value) > _MAX_SERVICE_ACCOUNT_LENGTH:
        return f"a service account has at most {_MAX_SERVICE_ACCOUNT_LENGTH} characters"
    if not _SERVICE_ACCOUNT.fullmatch(value):
        return f'"{value}" is not written "serviceAccount" or "namespace/serviceAccount"'
    return None


def service_account(value: str, context: Context) -> Predicate:
    """Without a namespace: that of the policy."""
    namespace, slash, name = value.partition("/")
    if not slash:
        namespace, name = context.namespace, value
    return any_of(*(Peer(Exact(Identity(own, namespace, name).uri)) for own in context.trust_domains))


def trust_domain_problem(value: str) -> str | None:
    return None if _TRUST_DOMAIN.fullmatch(value) else f'"{value}" never matches: it is not a trust domain'


def trust_domain(value: str, context: Context) -> Predicate:
    match = wildcard(value)
    if isinstance(match, Prefix):
        return Peer(Regex(f"spiffe://{re.escape(match.value)}[^,/]*/ns/{_NAME}/sa/{_NAME}"))
    if isinstance(match, Suffix):
        return Peer(Regex(f"spiffe://[^,/]*{re.escape(match.value)}/ns/{_NAME}/sa/{_NAME}"))
    if isinstance(match, Present):
        return Peer(match)
    # As in Istio: ExpandTrustDomainAliases.
    named = context.trust_domains if value in context.trust_domains else (value,)
    return any_of(*(Peer(Prefix(f"spiffe://{name}/")) for name in named))


def request_principal_problem(value: str) -> str | None:
    if value.endswith("/") or value.startswith("/") or ("/" not in value and not _at_one_end(value)):
        return f'"{value}" never matches: a request principal is written "issuer/subject"'
    return None


def _at_one_end(value: str) -> bool:
    return value.startswith("*") or value.endswith("*")


def request_principal(value: str, context: Context) -> Predicate:
    """``issuer/subject``, split at the last ``/``, since an issuer is mostly a URL and a subject may hold anything.

    Both are compared apart: ``https://a/b`` of issuer ``https://a`` with subject ``b/c`` must not pass for another's.
    The first part asks for two strings, so that a claim which is a list matches nothing.
    """
    both = RequestPrincipal(Present())
    if value == "*":
        return both
    issuer, slash, subject = value.rpartition("/")
    if not slash:
        single = Claim(("sub",) if value.startswith("*") else ("iss",), wildcard(value))
        return all_of(both, single)
    leading, trailing = value.startswith("*"), value.endswith("*") and not value.startswith("*")
    parts: list[Predicate] = [both]
    if issuer != "*":
        parts.append(Claim(("iss",), Suffix(issuer[1:]) if leading else Exact(issuer)))
    if not trailing:
        parts.append(Claim(("sub",), Exact(subject)))
    elif subject != "*":
        parts.append(Claim(("sub",), Prefix(subject[:-1])))
    return all_of(*parts)


def address_problem(value: str) -> str | None:
    prefix = value.partition("/")[2]
    try:
        ip_network(value, strict=False)
    except ValueError:
        return f'"{value}" is not an IP address or CIDR'
    return None if not prefix or prefix.isdigit() else f'"{value}" is not an IP address or CIDR'


def network(value: str) -> Network:
    return ip_network(value, strict=False)


def host(value: str, context: Context) -> Predicate:
    """As in Istio, a port in the authority counts: ``example.com`` is not ``example.com:8080``."""
    return Host(wildcard(value, ignore_case=True))


def port_problem(value: str) -> str | None:
    return None if _PORT.fullmatch(value) and int(value) <= 65535 else f'"{value}" is not a port (1 to 65535)'


def destination_port(value: str, context: Context) -> Predicate:
    return DestinationPort(int(value))


def method(value: str, context: Context) -> Predicate:
    return Method(wildcard(value))


def path_problem(value: str) -> str | None:
    """Istio's rules for path templates (pkg/config/security/security.go, CheckValidPathTemplate)."""
    if "{" not in value and "}" not in value:
        return None
    ended = False
    for segment in value.strip("/").split("/"):
        if ended and segment in ("{*}", "{**}"):
            return f'"{value}": {{**}} must be the last operator'
        if segment == "{**}":
            ended = True
        elif segment != "{*}" and not _PATH_LITERAL.fullmatch(segment):
            return f'"{value}": a path template has segments that are {{*}}, {{**}} or plain text'
    return None


def path(value: str, context: Context) -> Predicate:
    return Path(PathTemplate(value) if "{" in value else wildcard(value))


def header_match(value: str) -> StringMatch:
    """``*``: the header is there, even if empty (Istio: matcher/header.go)."""
    return Regex(".*") if value == "*" else wildcard(value)


def inline_header(name: str, value: str) -> Predicate:
    """One element of a header with values that commas separate (Istio: ``HeaderMatcherWithRegex``)."""
    if value == "*":
        return Header(name, Regex(".*"))
    match = wildcard(value)
    element = re.escape(value)
    if isinstance(match, Suffix):
        element = ".*" + re.escape(match.value)
    elif isinstance(match, Prefix):
        element = re.escape(match.value) + ".*"
    return Header(name, Regex(f"(?:.*,)?{element}(?:,.*)?"))
