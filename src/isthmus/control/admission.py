"""Letting other machines in, and putting them out: implements ``api.enrolment.Admission``, ``api.nodes.Machines``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from isthmus.control.control_plane import ControlPlane
from isthmus.control.nodes import NODE_TTL, Certified, Member, Nodes
from isthmus.errors import NotEnrolled, Refused
from isthmus.identity.authority import Authority
from isthmus.identity.enrolment import JoinTokens
from isthmus.identity.server import CertificateService
from isthmus.identity.ticket import Ticket, pin_of
from isthmus.identity.wire import CertificateRequest, CertificateResponse
from isthmus.latest import Latest
from isthmus.model.offer import NOBODY, Scope, ScopeKind, node_name_problem
from isthmus.model.world import Doors

LONGEST_TOKEN = timedelta(days=1)
_log = logging.getLogger(__name__)


class Admission:
    """``reach`` None: this control plane is for its own machine alone."""

    def __init__(
        self,
        plane: ControlPlane,
        nodes: Nodes,
        tokens: JoinTokens,
        certificates: CertificateService,
        authority: Latest[Authority],
        clock: Callable[[], datetime],
        reach: Doors | None,
        end_stream: Callable[[str], None],
        revoke: Callable[[Iterable[Certified]], None] = lambda certificates: None,
    ) -> None:
        """``end_stream``: closes the ADS stream of a proxy. ``revoke``: lets all proxies refuse certificates."""
        self._revoke = revoke
        self._plane = plane
        self._nodes = nodes
        self._tokens = tokens
        self._certificates = certificates
        self._authority = authority
        self._clock = clock
        self._reach = reach
        self._end_stream = end_stream

    def roots(self) -> str:
        return "".join(self._authority.value.bundle.roots)

    def enrol(self, token: str, csr: str, peer: str) -> tuple[str, ...]:
        granted = self._tokens.find(token, self._clock())
        if not granted.scope:
            raise NotEnrolled("this join token is of the control plane's own machine")
        request = CertificateRequest(csr, int(NODE_TTL.total_seconds()))
        chain = CertificateResponse.decode(self._certificates.enrol(request.encode(), token)).cert_chain
        self._nodes.admit(granted.node, Scope.parse(granted.scope), chain[0])
        _log.warning("node %s joined from %s, as %s", granted.node, peer, granted.scope)
        return chain

    def invite(self, node: str, scope: str, ttl_seconds: int) -> dict[str, Any]:
        if self._reach is None:
            raise Refused("this control plane is for its own machine alone: `isthmus serve --listen ADDR:PORT`")
        problem = node_name_problem(node)
        if problem is not None:
            raise Refused(problem)
        ttl = timedelta(seconds=ttl_seconds)
        if not timedelta(seconds=1) <= ttl <= LONGEST_TOKEN:
            raise Refused("a join token lives from 1s to 24h")
        wanted = self._known(scope)
        authority, now = self._authority.value, self._clock()
        pins = tuple(pin_of(x509.load_pem_x509_certificate(root.encode())) for root in authority.bundle.roots)
        secret = self._tokens.issue(node, now, ttl, str(wanted))
        ticket = Ticket(node, authority.control_plane_id, pins, self._reach.enrolment.port, secret)
        _log.warning("a join token was made for the node %s, as %s", node, wanted)
        return {
            "node": node,
            "scope": str(wanted),
            "token": ticket.encode(),
            "control_plane": str(self._reach.control_plane),
            "expires": (now + ttl).isoformat(),
        }

    def _known(self, scope: str) -> Scope:
        """Raises Refused for a scope that is none, or of something that the manifests do not have."""
        try:
            wanted = Scope.parse(scope)
        except ValueError as wrong:
            raise Refused(str(wrong)) from wrong
        key = f"{wanted.namespace}/{wanted.name}"
        mesh = self._plane.mesh
        if wanted.kind is ScopeKind.GATEWAY and f"gateway~{wanted.namespace}~{wanted.name}" not in mesh.proxies_by_id:
            known = ", ".join(f"{one.namespace}/{one.name}" for one in mesh.proxies if one.id.startswith("gateway~"))
            raise Refused(f"the manifests have no gateway {key}" + (f" (they have {known})" if known else ""))
        if wanted.kind is ScopeKind.GROUP and key not in mesh.workload_groups:
            raise Refused(f"the manifests have no WorkloadGroup {key}")
        return wanted

    def evict(self, node: str) -> dict[str, Any]:
        proxies = [proxy.id for proxy in self._plane.mesh.proxies if proxy.node == node and node != NOBODY]
        member = self._nodes.members.get(node)
        held = self._nodes.evict(node)
        self._revoke(held)
        self._tokens.forget(node)
        streams = set(proxies)
        if member is not None and member.scope.kind is ScopeKind.GATEWAY:
            # Its Envoy may be connected still where the node itself has not been for longer than the grace.
            streams.add(f"gateway~{member.scope.namespace}~{member.scope.name}")
        for proxy in sorted(streams):
            self._end_stream(proxy)
        _log.warning("node %s was evicted: it carried %s", node, ", ".join(proxies) or "nothing")
        return {"node": node, "proxies": proxies, "revoked": len(held)}

    def nodes(self) -> list[dict[str, Any]]:
        found = [self._member(member) for member in self._nodes.members.values()]
        joined = self._nodes.members
        found += [
            _line(token.node, "invited", scope=token.scope, since=token.expires)
            for token in self._tokens.waiting(self._clock())
            if token.scope and token.node not in joined
        ]
        found += [_line(name, "evicted", since=when) for name, when in self._nodes.evicted.items()]
        return found

    def _member(self, member: Member) -> dict[str, Any]:
        connected = self._nodes.connected(member.name)
        proxies = [proxy.id for proxy in self._plane.mesh.proxies if proxy.node == member.name]
        line = _line(
            member.name, "connected" if connected else "away", str(member.scope), member.joined, proxies, member.address
        )
        if member.health is not None:
            line |= {"healthy": member.health.healthy, "reason": member.health.reason}
        return line


def _line(
    name: str,
    state: str,
    scope: str = "",
    since: datetime | None = None,
    proxies: Iterable[str] = (),
    address: str = "",
) -> dict[str, Any]:
    return {
        "name": name,
        "state": state,
        "scope": scope,
        "since": since.isoformat() if since is not None else None,
        "address": address,
        "proxies": list(proxies),
        "healthy": None,
        "reason": "",
    }
