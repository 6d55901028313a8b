"""Credentials: what the Secrets that manifests name as certificates hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.model.mesh import SecretRef

CERTIFICATE_KEYS = (("tls.crt", "tls.key"), ("cert", "key"))
CA_KEYS = ("ca.crt", "cacert")
CRL_KEYS = ("ca.crl", "crl")


@dataclass(frozen=True, slots=True)
class ClientCredential:
    """What one namespace's Secret NAME, and NAME-cacert beside it, give to a client. Each is the Secret's full name."""

    namespace: str
    certificate: str | None
    ca: str | None

    def serves(self, certificate: bool, *, verify: bool) -> bool:
        """Whether it has all that is needed."""
        return (not certificate or self.certificate is not None) and (not verify or self.ca is not None)


def find_client_credential(secrets: Mapping[str, SecretRef], namespace: str, name: str) -> ClientCredential:
    """What the Secrets of ``namespace`` have for the credentialName ``name``."""
    own = secrets.get(f"{namespace}/{name}")
    certificate = own is not None and any(own.keys.issuperset(pair) for pair in CERTIFICATE_KEYS)
    ca = next(
        (
            candidate
            for candidate in (name, f"{name}-cacert")
            if (found := secrets.get(f"{namespace}/{candidate}")) is not None and not found.keys.isdisjoint(CA_KEYS)
        ),
        None,
    )
    return ClientCredential(namespace, name if certificate else None, ca)
