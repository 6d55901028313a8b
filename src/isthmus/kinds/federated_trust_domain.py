"""FederatedTrustDomain: another trust domain whose workloads may be met, and where its trust bundle comes from.

Our own kind, in the terms of SPIFFE Federation and of SPIRE's ClusterFederatedTrustDomain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from isthmus.config.decode import Reader, checked, enum_of, fail, noted, optional, record, required, text
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.errors import BundleUnavailable
from isthmus.kinds.authorization_policy.value import LOCAL_TRUST_DOMAIN
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.mesh_config import trust_domain_problem
from isthmus.model.federation import BundleEndpointProfile, FederatedTrustDomain
from isthmus.model.mesh import Mesh
from isthmus.model.spiffe_bundle import SpiffeBundle, read_spiffe_bundle

OWN_TRUST_DOMAIN = Code(
    "ISM2280",
    Severity.ERROR,
    "Federation with the mesh's own trust domain",
    '"{name}" is {whose}: nobody else may speak for it, so this has no effect',
    what="A FederatedTrustDomain names the mesh's trust domain, one of its aliases, or cluster.local.",
    why="Whoever has the other bundle's keys could be any workload of this mesh. In policies cluster.local stands for "
    "the mesh's own trust domain, so no other can be meant by it.",
    example="spec: {trustDomain: cluster.local, bundleEndpointURL: https://other.example/bundle, …}",
    fix="Give each mesh a trust domain of its own (trustDomain in the mesh configuration).",
    stops=False,
)
FEDERATED_TWICE = Code(
    "ISM2281",
    Severity.ERROR,
    "A trust domain that is federated twice",
    'another FederatedTrustDomain speaks of "{name}" already: this one has no effect',
    what="Two FederatedTrustDomains are of the same trust domain.",
    why="A trust domain has one bundle; two are never merged.",
    example="(two documents with trustDomain: td2.example)",
    fix="Remove one of them.",
    stops=False,
)


@dataclass(frozen=True, slots=True)
class ProfileSpec:
    at: Node
    type: BundleEndpointProfile
    endpoint_spiffeid: str | None


@dataclass(frozen=True, slots=True)
class FederatedTrustDomainSpec:
    at: Node
    trust_domain: str
    url: str
    profile: ProfileSpec
    bundle: SpiffeBundle | None


@dataclass(frozen=True, slots=True)
class _Written:
    at: Node
    trust_domain: str
    bundle_endpoint_url: str
    bundle_endpoint_profile: ProfileSpec
    trust_domain_bundle: str | None


def _url_problem(url: str) -> str | None:
    """SPIFFE Federation, section 5.1: https, and no userinfo."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        return f'"{url}" is not an https URL'
    return "a bundle endpoint's URL holds no user and no password" if "@" in parts.netloc else None


def _spiffe_id_problem(written: str) -> str | None:
    trust_domain, slash, path = written.removeprefix("spiffe://").partition("/")
    if not written.startswith("spiffe://") or trust_domain_problem(trust_domain) is not None or not (slash and path):
        return f'"{written}" is not the SPIFFE ID of a workload'
    return None


def _profile(written: ProfileSpec, node: Node, report: Report) -> ProfileSpec:
    spiffe = written.type is BundleEndpointProfile.https_spiffe
    if spiffe and written.endpoint_spiffeid is None:
        raise fail(report, node.at("endpointSPIFFEID"), "https_spiffe needs endpointSPIFFEID: who the endpoint must be")
    if not spiffe and written.endpoint_spiffeid is not None:
        raise fail(report, node.at("endpointSPIFFEID"), "https_web has no use for it: its name is that of the URL")
    return written


def _spec(written: _Written, node: Node, report: Report) -> FederatedTrustDomainSpec:
    at = node.at("trustDomainBundle")
    bundle = None
    if written.trust_domain_bundle is not None:
        try:
            bundle = read_spiffe_bundle(written.trust_domain_bundle, written.trust_domain)
        except BundleUnavailable as fault:
            raise fail(report, at, str(fault)) from fault
    elif written.bundle_endpoint_profile.type is BundleEndpointProfile.https_spiffe:
        raise fail(
            report, at, "https_spiffe needs trustDomainBundle: without it nobody knows the endpoint's certificate"
        )
    return FederatedTrustDomainSpec(
        node, written.trust_domain, written.bundle_endpoint_url, written.bundle_endpoint_profile, bundle
    )


_PROFILE: Reader[ProfileSpec] = converted(
    record(
        ProfileSpec,
        required("type", enum_of(BundleEndpointProfile)),
        optional("endpointSPIFFEID", checked(text, _spiffe_id_problem), note="of https_spiffe: who the endpoint is"),
    ),
    _profile,
)
SPEC: Reader[FederatedTrustDomainSpec] = converted(
    record(
        _Written,
        required("trustDomain", checked(text, trust_domain_problem)),
        required("bundleEndpointURL", checked(text, _url_problem)),
        required("bundleEndpointProfile", _PROFILE),
        optional(
            "trustDomainBundle",
            text,
            note="a SPIFFE bundle (JSON) for the first contact; https_spiffe cannot do without",
        ),
        noted("className", "there is one control plane only"),
    ),
    _spec,
)


def apply(resources: Sequence[Resource[FederatedTrustDomainSpec]], mesh: Mesh, report: Report) -> Mesh:
    found: dict[str, FederatedTrustDomain] = {}
    own = mesh.settings.trust_domains
    for resource in resources:
        spec = resource.spec
        name, at = spec.trust_domain, spec.at.at("trustDomain")
        if name in own or name == LOCAL_TRUST_DOMAIN:
            whose = "the mesh's own trust domain" if name in own else "what policies call the mesh's own trust domain"
            report.add(OWN_TRUST_DOMAIN, at, name=name, whose=whose)
        elif name in found:
            report.add(FEDERATED_TWICE, at, name=name)
        else:
            found[name] = FederatedTrustDomain(
                name, spec.url, spec.profile.type, spec.profile.endpoint_spiffeid, spec.bundle, resource.origin
            )
    return replace(mesh, federated=tuple(found.values()))


KIND = Kind(
    name="FederatedTrustDomain",
    api_versions=("isthmus.dev/v1alpha1",),
    spec=SPEC,
    apply=apply,
    about="Another trust domain, whose workloads may call and be called under the identities that it gives them.",
)
