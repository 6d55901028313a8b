"""The certificate authority of a running control plane, asked over its Unix socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from isthmus.errors import Refused, Unreachable

_SECONDS = 20.0


class AuthorityClient:
    """The requests of ``api.authority.CertificateAuthority``. Each raises Refused; Unreachable: nobody answers."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def shown(self) -> dict[str, Any]:
        return self._ask("GET", "")

    def rotate(self, what: str, *, force: bool) -> None:
        self._ask("POST", "/rotate", {"what": what, "force": force})

    def issue(self, csr: str, spiffe_id: str | None, dns_names: list[str], ttl_seconds: int) -> list[str]:
        body = {"csr": csr, "spiffe_id": spiffe_id, "dns_names": dns_names, "ttl_seconds": ttl_seconds}
        chain: list[str] = self._ask("POST", "/issue", body)["chain"]
        return chain

    def revoke(self, spiffe_id: str, *, take_back: bool) -> None:
        self._ask("POST", "/revoke", {"spiffe_id": spiffe_id, "take_back": take_back})

    def revoke_certificate(self, serial: str, reason: str, *, take_back: bool) -> None:
        self._ask("POST", "/revoke", {"serial": serial, "reason": reason, "take_back": take_back})

    def lists(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("GET", "/crl")["lists"]
        return found

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        transport = httpx.HTTPTransport(uds=str(self._socket.resolve()), verify=False)
        with httpx.Client(transport=transport, base_url="http://control-plane", timeout=_SECONDS) as http:
            try:
                answer = http.request(method, f"/v1/ca{path}", json=body)
            except httpx.TransportError as error:
                raise Unreachable(f"no control plane answers at {self._socket}") from error
        if answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
            raise Refused(f"the control plane at {self._socket} did not answer: it stops, or its log says why")
        found: dict[str, Any] = answer.json()
        if answer.status_code != httpx.codes.OK:
            raise Refused(found["error"])
        return found
