"""Fetching trust bundles over HTTPS, with a limit on everything that the other side chooses.

Source: SPIFFE Federation, section 5. The endpoint is never shown a certificate of ours: it must not ask for one.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol

import httpx
from cryptography import x509

from isthmus.errors import BundleUnavailable
from isthmus.federation.source import BundleSource
from isthmus.fetching import new_client, read_body
from isthmus.model.spiffe_bundle import MAX_BYTES, SpiffeBundle, read_spiffe_bundle

_TOTAL: Final = timedelta(seconds=10)
_CONNECT: Final = timedelta(seconds=3)


class BundleFetcher(Protocol):
    async def fetch(self, source: BundleSource, endpoint_roots: tuple[str, ...]) -> SpiffeBundle:
        """The bundle now. ``endpoint_roots``: PEM, of the endpoint's trust domain. Raises BundleUnavailable."""


@dataclass(frozen=True, slots=True)
class HttpsBundleFetcher:
    """A connection for each fetch: between two lie minutes."""

    web: ssl.SSLContext = field(repr=False)
    """What vouches for endpoints of the profile https_web."""

    async def fetch(self, source: BundleSource, endpoint_roots: tuple[str, ...]) -> SpiffeBundle:
        """Raises BundleUnavailable: unreachable, late, not whom it should be, not 200, too large, or not a bundle."""
        try:
            async with asyncio.timeout(_TOTAL.total_seconds()), self._client(source, endpoint_roots) as client:
                return read_spiffe_bundle(await _get(client, source), source.trust_domain)
        except TimeoutError:
            raise BundleUnavailable(f"no whole answer in {_TOTAL.total_seconds():g} s") from None
        except httpx.TimeoutException:
            raise BundleUnavailable("no answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as fault:
            raise BundleUnavailable(str(fault) or type(fault).__name__) from None

    def _client(self, source: BundleSource, endpoint_roots: tuple[str, ...]) -> httpx.AsyncClient:
        trust = self.web if source.endpoint_spiffe_id is None else _spiffe_context(endpoint_roots)
        return new_client(trust, _TOTAL, _CONNECT, accept="application/json")


def _spiffe_context(roots: tuple[str, ...]) -> ssl.SSLContext:
    """Believes these roots alone; whose name the certificate has is looked at afterwards, since it is no host's."""
    if not roots:
        raise BundleUnavailable("the bundle that vouches for the endpoint is not here (yet)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata="".join(roots))
    return context


async def _get(client: httpx.AsyncClient, source: BundleSource) -> bytes:
    async with client.stream("GET", source.url) as response:
        if source.endpoint_spiffe_id is not None:
            _require_identity(response, source.endpoint_spiffe_id)
        # A redirect is an error too: who may speak for the trust domain is what the manifest says.
        return await read_body(response, MAX_BYTES, BundleUnavailable)


def _require_identity(response: httpx.Response, expected: str) -> None:
    """An X.509-SVID has exactly one URI SAN, and is not an authority's (X509-SVID, sections 2 and 4.1)."""
    connection: Any = response.extensions["network_stream"].get_extra_info("ssl_object")
    shown = connection.getpeercert(binary_form=True) if connection is not None else None
    if shown is None:
        raise BundleUnavailable("the endpoint showed no certificate")
    try:
        certificate = x509.load_der_x509_certificate(shown)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.InvalidVersion):
        raise BundleUnavailable("the endpoint's certificate is not an X.509-SVID") from None
    if uris != [expected] or constraints.ca:
        raise BundleUnavailable(f"the endpoint is {', '.join(uris)[:300] or 'nobody'}, not {expected}")
