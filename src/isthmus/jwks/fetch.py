"""Fetching key sets over HTTPS, with a limit on everything that the other side chooses."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import certifi
import httpx

from isthmus.errors import JwksUnavailable
from isthmus.fetching import REDIRECTS, Fault, clock_problem, new_client, parse_url, read_body
from isthmus.jwks.provider import read_provider
from isthmus.jwks.source import JwksSource, discovery_uri, read_discovery
from isthmus.model.key_set import KeySet, read_key_set
from isthmus.model.oidc import ProviderEndpoints

log = logging.getLogger(__name__)


class Fetcher(Protocol):
    async def fetch(self, source: JwksSource) -> KeySet:
        """The keys of ``source`` now. Raises JwksUnavailable with the reason."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one fetch, discovery and redirects included; ``total`` where the source says nothing."""

    total: timedelta = timedelta(seconds=5)
    connect: timedelta = timedelta(seconds=2)
    max_body_bytes: int = 1024 * 1024
    max_redirects: int = 3


def trust(ca_bundle: Path | None = None) -> ssl.SSLContext:
    """Trust the system's roots (certifi's where the system has none) and those in ``ca_bundle`` (PEM).

    Raises JwksUnavailable: the bundle cannot be read.
    """
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"] and not _has_root_folder():
        context.load_verify_locations(certifi.where())
    if ca_bundle is not None:
        try:
            context.load_verify_locations(ca_bundle)
        except OSError as fault:  # an SSLError is one too
            raise JwksUnavailable(f"{ca_bundle}: not a bundle of CA certificates ({fault.strerror or fault})") from None
    return context


def _has_root_folder() -> bool:
    # OpenSSL reads a folder of roots only as it needs them, so the context does not count those.
    folder = ssl.get_default_verify_paths().capath
    return folder is not None and any(Path(folder).iterdir())


@dataclass(frozen=True, slots=True)
class HttpFetcher:
    """The :class:`Fetcher` of the control plane. A connection per fetch: between two lie twenty minutes."""

    trust: ssl.SSLContext = field(repr=False)
    limits: Limits = Limits()
    _clocks: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    """Hosts whose clock is wrong."""

    async def fetch(self, source: JwksSource) -> KeySet:
        """Raises JwksUnavailable: not :func:`permitted`, unreachable, late, not 200, too large, or not a key set."""
        total = source.timeout or self.limits.total
        client = new_client(self.trust, total, self.limits.connect, accept="application/json")
        try:
            async with asyncio.timeout(total.total_seconds()), client:
                uri = source.uri
                if uri is None:
                    discovery = _parse(discovery_uri(source.issuer))
                    uri = read_discovery(await self._get(client, discovery), source.issuer)
                    _stay_on_scheme(discovery, _parse(uri))
                return read_key_set(await self._get(client, _parse(uri)))
        except TimeoutError:
            raise JwksUnavailable(f"no whole answer in {total.total_seconds():g} s") from None

    async def discover(self, issuer: str) -> ProviderEndpoints:
        """Where ``issuer``'s users log in, as its discovery document says.

        Raises JwksUnavailable: as :meth:`fetch`, or not a document that :func:`read_provider` takes.
        """
        client = new_client(self.trust, self.limits.total, self.limits.connect, accept="application/json")
        try:
            async with asyncio.timeout(self.limits.total.total_seconds()), client:
                return read_provider(await self._get(client, _parse(discovery_uri(issuer))), issuer)
        except TimeoutError:
            raise JwksUnavailable(f"no whole answer in {self.limits.total.total_seconds():g} s") from None

    async def _get(self, client: httpx.AsyncClient, url: httpx.URL) -> bytes:
        for _ in range(self.limits.max_redirects + 1):
            permitted(url)
            try:
                async with client.stream("GET", url) as response:
                    if response.status_code not in REDIRECTS:
                        self._compare_clocks(response)
                        return await read_body(response, self.limits.max_body_bytes, _of(response.url))
                    # Joining fails as parsing does: the place is the other side's text.
                    target = _parse(response.headers.get("location", ""), url)
            except httpx.TimeoutException:
                raise JwksUnavailable(f"{_shown(url)}: no answer in time") from None
            # Where a redirect leads is looked at before we are asked.
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as fault:
                raise JwksUnavailable(f"{_shown(url)}: {str(fault) or type(fault).__name__}") from None
            _stay_on_scheme(url, target)
            url = target
        raise JwksUnavailable(f"{_shown(url)}: more than {self.limits.max_redirects} redirects")

    def _compare_clocks(self, response: httpx.Response) -> None:
        """Whoever signs tokens and whoever verifies them must agree about the time. Told once while it lasts."""
        wrong, host = clock_problem(response, datetime.now(UTC)), response.url.host
        if wrong is None:
            self._clocks.discard(host)
        elif host not in self._clocks:
            self._clocks.add(host)
            log.warning("%s: %s", host, wrong)


def permitted(url: httpx.URL) -> None:
    """Raises JwksUnavailable unless keys may come from ``url``: https, or http from this machine (development).

    Whoever stands in the way of plain http hands out keys of their own and signs what they like.
    """
    if not url.host:
        raise JwksUnavailable(f"{_shown(url)}: no host in the URL")
    if url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.host)):
        return
    if url.scheme == "http":
        raise JwksUnavailable(f"{_shown(url)}: keys come over https only (http from a loopback address alone)")
    raise JwksUnavailable(f"{_shown(url)}: not an https URL")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _stay_on_scheme(url: httpx.URL, target: httpx.URL) -> None:
    if target.scheme != url.scheme:
        raise JwksUnavailable(f"{_shown(url)} leads to {_shown(target)}: from {url.scheme} to another scheme")


def _parse(text: str, base: httpx.URL | None = None) -> httpx.URL:
    return parse_url(text, JwksUnavailable, base)


def _of(url: httpx.URL) -> Fault:
    return lambda reason: JwksUnavailable(f"{_shown(url)}: {reason}")


def _shown(url: httpx.URL) -> str:
    """Without user, password and query: what reaches logs holds no secrets."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    port = "" if url.port is None else f":{url.port}"
    return f"{url.scheme}://{host}{port}{url.path}"
