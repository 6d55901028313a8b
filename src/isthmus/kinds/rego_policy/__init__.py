"""RegoPolicy: Rego decides about requests, after the token is verified and access control.

Our own kind. Documents and results are those of the OPA-Envoy plugin, so that people's policies run unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.rego_policy.bundle import bundle_source
from isthmus.kinds.rego_policy.decision_log import decision_logging
from isthmus.kinds.rego_policy.spec import SPEC, BodySpec, RegoPolicySpec
from isthmus.kinds.shape.attach import attachment
from isthmus.kinds.shape.kind import Kind
from isthmus.model.attachment import Attachment
from isthmus.model.mesh import Mesh
from isthmus.model.rego import RegoModule, RegoPolicy
from isthmus.model.settings import ExtAuthz, RequestBody

PROVIDER_TWICE = Code(
    "ISM2381",
    Severity.ERROR,
    "Two ext_authz providers of one name",
    'there is another ext_authz provider "{name}": CUSTOM policies never ask this one{instead}',
    what="A RegoPolicy has the provider name of another, or of an extensionProvider of the mesh configuration.",
    why="An AuthorizationPolicy names the provider that it asks; only one can be meant. The mesh configuration's own "
    "is; of two RegoPolicies neither, for any namespace may have one: what CUSTOM policies send there is refused.",
    example="spec: {provider: opa, rego: …}   # and extensionProviders: [{name: opa, …}]",
    fix="Give each a name of its own.",
    stops=False,
)
_UNAVAILABLE = 503


def apply(resources: Sequence[Resource[RegoPolicySpec]], mesh: Mesh, report: Report) -> Mesh:
    """Add the policies to the Mesh, in order of loading: equally specific ones must all allow."""
    policies = tuple(_policy(resource, mesh, report) for resource in resources)
    providers = tuple(_providers(resources, policies, mesh, report))
    settings = replace(mesh.settings, ext_authz=(*mesh.settings.ext_authz, *providers)) if providers else mesh.settings
    return replace(mesh, settings=settings, policies=replace(mesh.policies, rego=policies))


def _providers(
    resources: Sequence[Resource[RegoPolicySpec]], policies: Sequence[RegoPolicy], mesh: Mesh, report: Report
) -> Iterator[ExtAuthz]:
    """What CUSTOM policies may ask beside the mesh configuration's own: the names must differ."""
    known = {provider.name for provider in mesh.settings.ext_authz}
    named = Counter(policy.provider for policy in policies)
    for resource, policy in zip(resources, policies, strict=True):
        if policy.provider is None:
            continue
        if policy.provider in known or named[policy.provider] > 1:
            instead = "" if policy.provider in known else ", nor that: what they ask is refused"
            report.add(PROVIDER_TWICE, resource.spec.at.at("provider"), name=policy.provider, instead=instead)
            continue
        yield ExtAuthz(
            policy.provider,
            host="",
            port=0,
            grpc=True,
            origin=policy.origin,
            timeout=policy.timeout,
            status_on_error=_UNAVAILABLE,
            include_body=policy.body,
            rego=policy.key,
        )


def _policy(resource: Resource[RegoPolicySpec], mesh: Mesh, report: Report) -> RegoPolicy:
    spec = resource.spec
    file = f"{resource.namespace}/{resource.name}.rego"
    return RegoPolicy(
        name=resource.name,
        namespace=resource.namespace,
        attachment=attachment(resource, spec, mesh, report) if spec.provider is None else Attachment(),
        origin=resource.origin,
        path=spec.path,
        modules=(RegoModule(file, spec.rego),) if spec.rego is not None else (),
        data=spec.data,
        body=_body(spec.with_request_body),
        timeout=spec.timeout,
        dry_run=spec.dry_run,
        provider=spec.provider,
        bundle=bundle_source(spec.bundle, resource.namespace) if spec.bundle is not None else None,
        log=decision_logging(spec.decision_log, resource.namespace),
    )


def _body(spec: BodySpec | None) -> RequestBody | None:
    if spec is None:
        return None
    return RequestBody(spec.max_request_bytes, spec.allow_partial_message, spec.pack_as_bytes)


KIND = Kind(
    name="RegoPolicy",
    api_versions=("isthmus.dev/v1alpha1",),
    spec=SPEC,
    apply=apply,
    about="Rego decides about requests, by OPA-Envoy's documents; from a text or a bundle.",
    security=True,
)
