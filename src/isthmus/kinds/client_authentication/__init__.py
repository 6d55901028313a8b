"""ClientAuthentication (ours): which credentials a route, a gateway or a workload takes, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Place, Report, Severity
from isthmus.kinds.client_authentication.introspection import IntrospectionSpec
from isthmus.kinds.client_authentication.login_place import report_places
from isthmus.kinds.client_authentication.spec import SPEC, ClientAuthenticationSpec, MethodSpec
from isthmus.kinds.shape.attach import attachment
from isthmus.kinds.shape.host import NOT_FOUND, hint
from isthmus.kinds.shape.kind import Kind
from isthmus.model.attachment import Attachment
from isthmus.model.client_authentication import (
    CertificateMethod,
    ClientAuthentication,
    JwtMethod,
)
from isthmus.model.credential import CA_KEYS
from isthmus.model.mesh import Mesh

UNITED = Code(
    "ISM2300",
    Severity.WARNING,
    "Two ClientAuthentications for the same",
    "{other} is for the same ({place}): a client may use the methods of either{also}",
    what="Two policies of the same place say which credentials are taken there.",
    why="Equally specific policies are united: who adds one to narrow access widens it. Of two introspections the "
    "first is asked; a credential is required if either requires one.",
    example="two policies with targetRefs: [{kind: VirtualService, name: shop}]",
    fix="Merge them into one, or name the http route that each is about.",
)
KEY_IN_QUERY = Code(
    "ISM2301",
    Severity.WARNING,
    "API keys in the query",
    "keys in the query parameter {names} end up in histories, in Referer headers and in logs of whoever stands before",
    what="A ClientAuthentication takes API keys from the URL.",
    why="Isthmus keeps them out of its own logs and takes them off before the request goes on; others do not.",
    example="apiKey: {query: [api_key]}",
    fix="Take keys from a header: apiKey: {headers: [x-api-key]}.",
)

_Policy = Resource[ClientAuthenticationSpec]


def apply(resources: Sequence[_Policy], mesh: Mesh, report: Report) -> Mesh:
    policies: list[ClientAuthentication] = []
    first: dict[object, _Policy] = {}
    for resource in resources:
        attached = attachment(resource, resource.spec, mesh, report)
        for place, name in _places(attached):
            other = first.setdefault(place, resource)
            if other is not resource:
                also = _also(other.spec, resource.spec)
                report.add(UNITED, Place(resource.source, resource.ref), other=other.ref, place=name, also=also)
        _look(resource, mesh, report)
        policies.append(_policy(resource, attached))
    if not policies:
        return mesh
    report_places(policies, mesh, report)
    return replace(mesh, policies=replace(mesh.policies, clients=tuple(policies)))


def _places(attached: Attachment) -> Iterator[tuple[object, str]]:
    """What it is about, and how a person would call that."""
    if attached.scope is not None:
        labels = ", ".join(f"{key}={value}" for key, value in attached.scope.labels)
        yield attached.scope, labels or attached.scope.namespace or "the whole mesh"
    for target in attached.targets:
        yield target, "/".join(filter(None, (target.kind.value, target.key, target.section)))


def _also(one: ClientAuthenticationSpec, other: ClientAuthenticationSpec) -> str:
    both = all(any(method.introspection for method in spec.methods) for spec in (one, other))
    return "; only the first introspection is asked" if both else ""


def _look(resource: _Policy, mesh: Mesh, report: Report) -> None:
    for method in resource.spec.methods:
        if method.api_key is not None and method.api_key.query:
            report.add(KEY_IN_QUERY, method.api_key.at.at("query"), names=", ".join(method.api_key.query))
        if method.introspection is not None:
            _look_for_secrets(resource, method.introspection, mesh, report)
        if method.oidc is not None:
            ref = method.oidc.client_secret_ref
            _look_for_secret(resource, ref.at, ref.name, (ref.key,), mesh, report)


def _look_for_secrets(resource: _Policy, written: IntrospectionSpec, mesh: Mesh, report: Report) -> None:
    """IST0101 for what is not there; without it every token is answered with 503."""
    wanted: list[tuple[Node, str, tuple[str, ...]]] = [
        (written.client_secret_ref.at, written.client_secret_ref.name, (written.client_secret_ref.key,))
    ]
    if written.ca_secret_ref is not None:
        wanted.append((written.ca_secret_ref.at, written.ca_secret_ref.name, CA_KEYS))
    for at, name, keys in wanted:
        _look_for_secret(resource, at, name, keys, mesh, report)


def _look_for_secret(resource: _Policy, at: Node, name: str, keys: tuple[str, ...], mesh: Mesh, report: Report) -> None:
    secret = mesh.secrets.get(f"{resource.namespace}/{name}")
    if secret is None:
        own = {secret.name for secret in mesh.secrets.values() if secret.namespace == resource.namespace}
        report.add(NOT_FOUND, at.at("name"), kind="Secret", name=name, hint=hint(name, own))
    elif secret.keys.isdisjoint(keys):
        report.add(NOT_FOUND, at, kind=f"key of Secret/{secret.key}", name=keys[0], hint=hint(keys[0], secret.keys))


def _policy(resource: _Policy, attached: Attachment) -> ClientAuthentication:
    methods: Sequence[MethodSpec] = resource.spec.methods
    return ClientAuthentication(
        name=resource.name,
        namespace=resource.namespace,
        attachment=attached,
        required=resource.spec.required,
        origin=resource.origin,
        api_keys=tuple(each.api_key.value for each in methods if each.api_key is not None),
        certificates=tuple(CertificateMethod() for each in methods if each.certificate is not None),
        jwt=tuple(
            JwtMethod(each.jwt.issuers, each.jwt.bound_to_certificate) for each in methods if each.jwt is not None
        ),
        introspection=tuple(
            each.introspection.value(resource.namespace) for each in methods if each.introspection is not None
        ),
        oidc=tuple(each.oidc.value(resource.origin) for each in methods if each.oidc is not None),
    )


KIND = Kind(
    name="ClientAuthentication",
    api_versions=("isthmus.dev/v1alpha1",),
    spec=SPEC,
    apply=apply,
    about="Which credentials are taken where: API keys, client certificates, tokens; any one of them suffices.",
    security=True,
)
