"""Consumer: a client that is known by name, whatever it proves itself with. Our own kind, in Kong's and APISIX's term.

Who it is stands here; its API keys are in the store alone (``isthmus consumer key``), so that a manifest can be shown
to anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from isthmus.config.decode import (
    Field,
    Reader,
    Support,
    Unreadable,
    checked,
    list_of,
    optional,
    record,
    text,
)
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.kind import Kind
from isthmus.model.consumer import COMMON_NAME, Consumer
from isthmus.model.mesh import Mesh

CREDENTIAL_IN_MANIFEST = Code(
    "ISM2330",
    Severity.ERROR,
    "A credential in a manifest",
    'no "{name}" here: a credential in a manifest is known to whoever reads the manifest; it lives in the store '
    "(isthmus consumer key create)",
    what="A Consumer is given an API key, a password or a token in its manifest.",
    why="Manifests are in version control, in reviews and in backups. What stands there is no secret any more.",
    example="kind: Consumer\nspec: {groups: [partners], apiKey: isk_…}",
    fix="Take the field out, and make a key: isthmus consumer key create NAMESPACE/NAME. If the one that stood here "
    "was in use anywhere, revoke it.",
)
CERTIFICATE_TWICE = Code(
    "ISM2331",
    Severity.ERROR,
    "A certificate's name that two consumers have",
    '"{name}" is a name of Consumer {other} already: nobody is taken for either by it',
    what="Two Consumers claim certificates of the same name.",
    why="Who shows such a certificate could be either of them, and so is nobody.",
    example="spec: {certificates: [partner.example]}   # in two Consumers",
    fix="Take the name out of one of them.",
    stops=False,
)

_CREDENTIALS = ("apiKey", "apiKeys", "credential", "credentials", "key", "keys", "password", "secret", "token")


def _credential(name: str) -> Field:
    """What people write where other gateways have it."""

    def read(node: Node, report: Report) -> None:
        report.add(CREDENTIAL_IN_MANIFEST, node, name=name)
        raise Unreadable

    return Field(name, Reader("nothing", read), support=Support.NARROWS, note="credentials live in the store alone")


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    at: Node
    groups: tuple[str, ...]
    plan: str | None
    certificates: tuple[str, ...]


def _word_problem(written: str) -> str | None:
    if not written or written != written.strip() or not written.isprintable():
        return "must be a name: something to read, without spaces around it"
    return None


def _certificate_problem(written: str) -> str | None:
    """A subject alternative name (URI, DNS), or ``CN=…``."""
    if written.startswith(COMMON_NAME):
        return _word_problem(written.removeprefix(COMMON_NAME))
    if "*" in written:
        return f'"{written}": a certificate is known by its whole name'
    if "://" in written:
        parts = urlsplit(written)
        return None if parts.scheme and (parts.netloc or parts.path) else f'"{written}" is not a URI'
    if "=" in written or "/" in written or any(character.isspace() for character in written) or not written:
        return f'"{written}" is neither a DNS name, a URI, nor CN= and a Common Name'
    return None


def _compared(name: str) -> str:
    """DNS names are the same in any case (RFC 4343)."""
    return name if "://" in name or name.startswith(COMMON_NAME) else name.lower()


def _certificates(written: tuple[str, ...], node: Node, report: Report) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(_compared, written)))


def _distinct(written: tuple[str, ...], node: Node, report: Report) -> tuple[str, ...]:
    return tuple(dict.fromkeys(written))


SPEC: Reader[ConsumerSpec] = record(
    ConsumerSpec,
    optional("groups", converted(list_of(checked(text, _word_problem)), _distinct), (), note="for policies to name"),
    optional("plan", checked(text, _word_problem), note="what it has subscribed to, for limits to name"),
    optional(
        "certificates",
        converted(list_of(checked(text, _certificate_problem)), _certificates),
        (),
        note="names in its client certificates: a URI or DNS name among the subject alternative names, or `CN=…`",
    ),
    *map(_credential, _CREDENTIALS),
)


def apply(resources: Sequence[Resource[ConsumerSpec]], mesh: Mesh, report: Report) -> Mesh:
    found: dict[str, Consumer] = {}
    owners: dict[str, str] = {}
    twice: set[str] = set()
    for resource in resources:
        spec = resource.spec
        known = Consumer(resource.name, resource.namespace, resource.origin, spec.groups, spec.plan, spec.certificates)
        for name in spec.certificates:
            other = owners.setdefault(name, known.key)
            if other != known.key:
                twice.add(name)
                at = next(one for one in spec.at.at("certificates").items if _compared(str(one.value)) == name)
                report.add(CERTIFICATE_TWICE, at, name=name, other=other)
        found[known.key] = known
    return replace(mesh, consumers={key: _without(one, twice) for key, one in found.items()})


def _without(consumer: Consumer, twice: set[str]) -> Consumer:
    if twice.isdisjoint(consumer.certificates):
        return consumer
    return replace(consumer, certificates=tuple(name for name in consumer.certificates if name not in twice))


KIND = Kind(
    name="Consumer",
    api_versions=("isthmus.dev/v1alpha1",),
    spec=SPEC,
    apply=apply,
    about="A client that is known by name, what it belongs to and its certificates' names. Never its credentials.",
)
