"""Another authority's SVIDs for our proxies: taken from its own agent's Workload API, SPIRE's for one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from isthmus.errors import IsthmusError, SvidInvalid
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.validate import peer_identity
from isthmus.latest import Latest
from isthmus.proxy.credential import Certificate, certificate
from isthmus.proxy.keep import BackOff
from isthmus.proxy.workload_api.client import certificates_in, x509_svids

_log = logging.getLogger(__name__)


class SvidSource:
    """Follows one socket. What it gave last stays while it is away.

    ``svids``: by SPIFFE ID. ``roots``: of ``trust_domain``, PEM; of other trust domains nothing is taken.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._told = ""
        self.svids: Latest[Mapping[str, Certificate]] = Latest({})
        self.roots: Latest[Mapping[str, tuple[str, ...]]] = Latest({})

    async def run(self) -> None:
        """Until cancelled."""
        back_off = BackOff(first=0.2, last=2.0)
        while True:
            try:
                async for response in x509_svids(self._socket):
                    self._take(response)
                    back_off.reset()
                    self._say("")
            except IsthmusError as failed:
                self._say(f"{self._socket} gives no SVIDs: {failed}")
            await asyncio.sleep(back_off.pause(0))

    def _take(self, response: Any) -> None:
        """A response is the complete state: what is not in it is gone. A broken SVID does not cost the others."""
        svids: dict[str, Certificate] = {}
        roots: dict[str, tuple[str, ...]] = {}
        for svid in response.svids:
            try:
                held, bundle = _read(svid)
            except (SvidInvalid, ValueError, TypeError) as broken:
                self._say(f"{self._socket}: the SVID of {svid.spiffe_id} is left out: {broken}")
                continue
            svids[svid.spiffe_id] = held
            roots[SpiffeId.parse(svid.spiffe_id).trust_domain] = bundle
        self.roots.set(roots)
        self.svids.set(svids)

    def _say(self, what: str) -> None:
        """Each new fault once."""
        if what and what != self._told:
            _log.error("%s", what)
        self._told = what


def _read(svid: Any) -> tuple[Certificate, tuple[str, ...]]:
    """The SVID with its key, and its trust domain's roots. Raises SvidInvalid, ValueError or TypeError."""
    chain = [one.public_bytes(Encoding.PEM).decode() for one in certificates_in(svid.x509_svid)]
    roots = tuple(one.public_bytes(Encoding.PEM).decode() for one in certificates_in(svid.bundle))
    if not chain or not roots:
        raise SvidInvalid("it has no certificate, or no bundle")
    if peer_identity(chain[0].encode()).uri != svid.spiffe_id:
        raise SvidInvalid("its certificate is for another identity")
    key = load_der_private_key(svid.x509_svid_key, None)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate(private, [*chain, "".join(roots)]), roots
