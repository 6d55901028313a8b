"""Whose certificate a client expects where TLS begins at its proxy."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.model.cluster import Protocol, Service
from isthmus.model.traffic_policy import ClientTls


@dataclass(frozen=True, slots=True)
class ServerNames:
    """The server name that is asked for, and the names of which the certificate must have one.

    The host of the service is both, unless a rule says otherwise. A wildcard is no name: then each HTTP request's own
    authority, which some route has let through, is; a plain connection has none.
    """

    tls: ClientTls
    sni: str | None
    certified: tuple[str, ...]
    """Empty: the request's own."""

    @classmethod
    def of(cls, service: Service, tls: ClientTls) -> ServerNames:
        sni = tls.sni or (None if service.host.startswith("*") else service.host)
        certified = tls.subject_alt_names or service.subject_alt_names or ((sni,) if sni else ())
        return cls(tls, sni, () if tls.skip_verify else certified)

    def of_request(self, protocol: Protocol) -> bool:
        """Whether each request names its server."""
        return self.tls.mode.is_origination and self.sni is None and protocol.is_http and not self.tls.skip_verify

    def verifiable(self, protocol: Protocol) -> bool:
        """Whether there is any name to hold a certificate against."""
        return bool(self.certified) or self.of_request(protocol)
