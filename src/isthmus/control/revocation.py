"""What gateways' servers need to know of who is revoked: what to fetch for them, and what came of it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.diag import Origin
from isthmus.model.credential import CA_KEYS, CERTIFICATE_KEYS
from isthmus.model.gateway import Gateway, Server, ServerTls
from isthmus.model.mesh import Mesh
from isthmus.model.revocation import ClientCrls, CrlPoints, Staple, StaplePolicy
from isthmus.revocation.crl import crl_pem, distribution_points, nobodys_crl
from isthmus.revocation.held import Held
from isthmus.revocation.ocsp import responder
from isthmus.revocation.server import SourceStatus
from isthmus.revocation.source import CrlSource, Source, StapleSource
from isthmus.xds.client_validation import client_roots_name
from isthmus.xds.secret import credential_name

SecretValue = Callable[[str, tuple[str, ...]], bytes | None]
"""The first of some keys that the Secret ``namespace/name`` has."""
Statuses = Mapping[Source, SourceStatus]


@dataclass(frozen=True, slots=True)
class CrlDemand:
    """Servers that go by the same lists: ``ca`` is the secret of their client CAs, ``authorities`` its PEM."""

    ca: str
    points: CrlPoints
    authorities: bytes
    only_leaf: bool
    """Whether lists count for leaves alone."""
    origin: Origin

    @property
    def sources(self) -> tuple[CrlSource, ...]:
        urls = list(self.points.urls)
        if self.points.from_certificates:
            for authority in x509.load_pem_x509_certificates(self.authorities):
                urls += distribution_points(authority)
        return tuple(CrlSource(url, self.authorities) for url in dict.fromkeys(urls))


@dataclass(frozen=True, slots=True)
class StapleDemand:
    """A certificate of ours beside which an answer must stand, or should. ``credential``: its secret."""

    credential: str
    name: str
    policy: StaplePolicy | None
    """None: only the certificate itself demands it."""
    demanded: bool
    """By the certificate itself."""
    source: StapleSource | None
    problem: str
    """Why nobody can be asked, without ``source``."""
    origin: Origin

    @property
    def strict(self) -> bool:
        """Whether the certificate is not shown without an answer."""
        return self.demanded or self.policy is StaplePolicy.MUST


@dataclass(frozen=True, slots=True)
class Demands:
    crls: tuple[CrlDemand, ...] = ()
    staples: tuple[StapleDemand, ...] = ()

    @property
    def sources(self) -> frozenset[Source]:
        crls = (source for demand in self.crls for source in demand.sources)
        return frozenset((*crls, *(demand.source for demand in self.staples if demand.source is not None)))


def demands(mesh: Mesh, value: SecretValue) -> Demands:
    """What the servers of all gateways ask for."""
    crls: dict[tuple[str, CrlPoints], CrlDemand] = {}
    staples: dict[str, StapleDemand] = {}
    for gateway, server, tls in _servers(mesh):
        points = tls.validation.crl_points
        if points is not None and tls.ca_credential is not None:
            pem = value(f"{gateway.namespace}/{tls.ca_credential}", CA_KEYS)
            if pem is not None:
                ca = client_roots_name(tls, gateway.namespace)
                crls.setdefault(
                    (ca, points), CrlDemand(ca, points, pem, tls.validation.only_verify_leaf_crl, _origin(server))
                )
        for name in tls.secrets:
            demand = _staple_demand(mesh, gateway.namespace, name, server, tls, value)
            known = staples.get(demand.credential) if demand is not None else None
            if demand is not None and (known is None or demand.policy is StaplePolicy.MUST):
                staples[demand.credential] = demand
    return Demands(tuple(crls.values()), tuple(staples.values()))


def _servers(mesh: Mesh) -> Iterator[tuple[Gateway, Server, ServerTls]]:
    for gateway in mesh.gateways:
        for server in gateway.servers:
            if server.tls is not None:
                yield gateway, server, server.tls


def _origin(server: Server) -> Origin:
    policy = server.client_traffic.origin
    return policy if policy is not None else server.origin


def _staple_demand(
    mesh: Mesh, namespace: str, name: str, server: Server, tls: ServerTls, value: SecretValue
) -> StapleDemand | None:
    key = f"{namespace}/{name}"
    known = mesh.secrets.get(key)
    if known is None or (tls.staple is None and not known.must_staple):
        return None
    pem = next((found for chain, _ in CERTIFICATE_KEYS if (found := value(key, (chain,))) is not None), None)
    if pem is None:
        return None
    source, problem = _staple_source(pem, value(key, CA_KEYS) or b"")
    credential = credential_name(namespace, name)
    return StapleDemand(credential, key, tls.staple, known.must_staple, source, problem, _origin(server))


@lru_cache(maxsize=16_384)
def _staple_source(chain: bytes, authorities: bytes) -> tuple[StapleSource | None, str]:
    """Whom to ask about the leaf of ``chain`` (PEM); else why nobody can be asked. Asked for at every turn."""
    leaf, *candidates = x509.load_pem_x509_certificates(chain)
    if authorities:
        candidates += x509.load_pem_x509_certificates(authorities)
    url = responder(leaf)
    if url is None:
        return None, "the certificate names no OCSP responder"
    issuer = next((one for one in candidates if leaf.issuer == one.subject), None)
    if issuer is None:
        return None, "the issuer's certificate is not in the chain of the Secret"
    return StapleSource(url, leaf.public_bytes(Encoding.DER), issuer.public_bytes(Encoding.DER)), ""


def learnt_crls(wanted: Demands, statuses: Statuses) -> dict[tuple[str, CrlPoints], ClientCrls]:
    """The lists that servers are to go by; where none came yet, one of nobody's: Envoy then refuses every chain.

    No secret at all would hold up the other servers of the port, and any further demand on certificates would shut out
    those clients of OPTIONAL_MUTUAL that have none.
    """
    found = {}
    for demand in wanted.crls:
        lists = in_force(demand, statuses)
        pem = b"".join(crl_pem(held.der) for held in lists) or nobodys_crl()
        version = _digest(pem) if lists else "none"
        found[demand.ca, demand.points] = ClientCrls(_generation(demand, lists), version, pem)
    return found


def in_force(demand: CrlDemand, statuses: Statuses) -> list[Held]:
    """Of each issuer (and each part of its certificates) the newest list."""
    newest: dict[tuple[bytes, bytes], Held] = {}
    for source in demand.sources:
        held = statuses[source].held if source in statuses else None
        if held is not None:
            known = newest.get((held.issuer, held.scope))
            if known is None or known.older_than(held):
                newest[held.issuer, held.scope] = held
    return [newest[key] for key in sorted(newest)]


def learnt_staples(wanted: Demands, statuses: Statuses) -> dict[str, Staple]:
    found = {}
    for demand in wanted.staples:
        status = statuses.get(demand.source) if demand.source is not None else None
        if status is not None and status.held is not None:
            # One that has ended stays: Envoy knows what each policy makes of it.
            found[demand.credential] = Staple(_digest(status.held.der), status.held.der)
    return found


def held_back(wanted: Demands, staples: Mapping[str, Staple]) -> frozenset[str]:
    """Secrets of certificates that are not shown without an answer, and have none."""
    return frozenset(one.credential for one in wanted.staples if one.strict and one.credential not in staples)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _generation(demand: CrlDemand, lists: Sequence[Held]) -> str:
    """Of who is revoked, and where it is published: not of the lists, which change without anybody's being revoked."""
    digest = hashlib.sha256(repr(demand.points).encode())
    for held in lists:
        digest.update(held.issuer + b"|" + held.scope)
        digest.update(",".join(map(str, sorted(held.revoked))).encode())
    return digest.hexdigest()[:16]
