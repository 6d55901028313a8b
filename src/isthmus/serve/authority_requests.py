"""What ``isthmus ca`` asks of the authority: implements ``api.authority.CertificateAuthority``.

A command does the same without a control plane, on a state that nobody holds.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from isthmus.errors import CsrRejected, Refused, StateUnusable
from isthmus.identity import rotation
from isthmus.identity.describe import describe
from isthmus.identity.revoked import (
    Reason,
    RevokedCertificate,
    certificate_to_json,
    parse_serial,
    read_revoked,
    restore,
    revoke,
)
from isthmus.identity.rotation import Step
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.validate import read_csr
from isthmus.serve.authority import AuthorityKeeper
from isthmus.state import StateDir

INTERMEDIATE = "intermediate"


class AuthorityRequests:
    """Each request changes the state first, then what runs."""

    def __init__(
        self,
        keeper: AuthorityKeeper,
        state: StateDir,
        clock: Callable[[], datetime],
        stores: Callable[[], list[dict[str, Any]]] = list,
    ) -> None:
        """``stores``: what manifests and federation trust, and which certificates they bring."""
        self._keeper = keeper
        self._state = state
        self._clock = clock
        self._stores = stores

    def shown(self) -> dict[str, Any]:
        authority = self._keeper.latest.value
        return {
            "trust_domain": authority.trust_domain,
            "given_by": self._keeper.given_by,
            "roots": [self._root(root) for root in dict.fromkeys((authority.root, *authority.others))],
            "signing": [describe(one).as_json() for one in authority.chain],
            "behind": list(self._keeper.behind),
            "revoked": [
                {"spiffe_id": one.spiffe_id.uri, "at": one.at.isoformat()} for one in read_revoked(self._state)
            ],
            "revoked_certificates": [certificate_to_json(one) for one in self._keeper.lists.latest.value.revoked],
            "stores": self._stores(),
        }

    def _root(self, root: x509.Certificate) -> dict[str, Any]:
        old = {one.certificate: one.until for one in rotation.old_roots(self._state)}
        role = "trusted"
        if root == self._keeper.latest.value.root:
            role = "active"
        elif root == rotation.next_root(self._state):
            role = "next"
        elif root in old:
            role = "old"
        until = old[root].isoformat() if role == "old" else None
        return {**describe(root).as_json(), "role": role, "trusted_until": until}

    def rotate(self, what: str, *, force: bool) -> None:
        if what == INTERMEDIATE:
            self._keeper.rotate_intermediate()
            return
        try:
            step = Step(what)
        except ValueError:
            raise Refused(f"{what!r} is none of {', '.join(Step)} and {INTERMEDIATE}") from None
        self._keeper.rotate(step, force=force)

    def issue(self, csr: str, spiffe_id: str | None, dns_names: list[str], ttl_seconds: int) -> list[str]:
        authority, now, ttl = self._keeper.latest.value, self._clock(), timedelta(seconds=ttl_seconds)
        request = read_csr(csr.encode())
        if (spiffe_id is None) == (not dns_names):
            raise CsrRejected("a certificate is for a SPIFFE ID or for DNS names")
        if spiffe_id is None:
            made = authority.issue_server(request, tuple(dns_names), ttl, now)
            chain, expires = made.chain, made.expires
        else:
            identity = SpiffeId.parse(spiffe_id)
            if identity == authority.control_plane_id or identity.node_name is not None:
                raise Refused(f"{identity} is the mesh's own: it is not given out by hand")
            self._keeper.check(identity)
            svid = authority.issue(request, identity, ttl, now)
            chain, expires = svid.chain, svid.expires
        self._keeper.note(expires)
        return [*chain, "".join(authority.bundle.roots)]

    def lists(self) -> list[dict[str, Any]]:
        return self._keeper.lists.latest.value.as_json()

    def revoke_certificate(self, serial: str, reason: str, *, take_back: bool) -> None:
        number, lists = parse_serial(serial), self._keeper.lists
        try:
            why = Reason(reason)
        except ValueError:
            raise Refused(f"{reason!r} is none of {', '.join(Reason)}") from None
        authority = self._keeper.latest.value
        if number in {one.serial_number for one in (authority.root, *authority.chain, *authority.others)}:
            raise Refused(f"{number:x} is an authority's: rotate it instead (isthmus ca rotate)")
        known = lists.reason(number)
        if not take_back and known not in (None, why, Reason.CERTIFICATE_HOLD):
            if why is Reason.UNSPECIFIED:
                # Asked once more, without a word of why: it is revoked.
                return
            raise Refused(f"{number:x} is revoked already, for good, as {known}: that does not change")
        try:
            if take_back:
                lists.restore(number)
            else:
                # Nobody says when it ends: what signed it ends later.
                lists.revoke([RevokedCertificate(number, self._clock(), why, lists.latest_end())])
        except StateUnusable as failed:
            raise Refused(f"nothing is changed: {failed}") from failed

    def revoke(self, spiffe_id: str, *, take_back: bool) -> None:
        identity = SpiffeId.parse(spiffe_id)
        authority = self._keeper.latest.value
        if identity.trust_domain != authority.trust_domain or not identity.path:
            raise Refused(f"{identity} is not an identity of the trust domain {authority.trust_domain}")
        if identity == authority.control_plane_id:
            raise Refused(f"{identity} is the control plane's: rotate the root instead, and revoke the old one")
        if identity.node_name is not None and not take_back:
            # No proxy has it, so that no policy would meet it; what a node is told and given goes by its membership.
            raise Refused(f"{identity} is a machine's: `isthmus node evict {identity.node_name}` puts it out")
        try:
            found = restore(self._state, identity) if take_back else revoke(self._state, identity, self._clock())
        except StateUnusable as failed:
            raise Refused(f"nothing is changed: {failed}") from failed
        self._keeper.set_revoked(frozenset(one.spiffe_id.uri for one in found))
