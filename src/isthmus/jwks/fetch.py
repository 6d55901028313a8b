"""Fetching key sets over HTTPS, with a limit on everything that the other side chooses."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

import certifi
import httpx

from isthmus.errors import JwksUnavailable
from isthmus.jwks.source import JwksSource, discovery_uri, read_discovery
from isthmus.model.key_set import KeySet, read_key_set

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_LOOPBACK_MOUNTS: Final = {"all://localhost": None, "all://127.0.0.1": None, "all://[::1]": None}
"""A proxy of the environment is never asked for this machine itself."""


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

    async def fetch(self, source: JwksSource) -> KeySet:
        """Raises JwksUnavailable: not :func:`permitted`, unreachable, late, not 200, too large, or not a key set."""
        seconds = (source.timeout or self.limits.total).total_seconds()
        try:
            async with asyncio.timeout(seconds), self._client(seconds) as client:
                uri = source.uri
                if uri is None:
                    discovery = _parse(discovery_uri(source.issuer))
                    uri = read_discovery(await self._get(client, discovery), source.issuer)
                    _stay_on_scheme(discovery, _parse(uri))
                return read_key_set(await self._get(client, _parse(uri)))
        except TimeoutError:
            raise JwksUnavailable(f"no whole answer in {seconds:g} s") from None

    def _client(self, seconds: float) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=self.trust,
            timeout=httpx.Timeout(seconds, connect=self.limits.connect.total_seconds()),
            # Unpacking is where a small answer becomes a huge one, so nothing packed is asked for.
            headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "isthmus"},
            mounts=_LOOPBACK_MOUNTS,
        )

    async def _get(self, client: httpx.AsyncClient, url: httpx.URL) -> bytes:
        for _ in range(self.limits.max_redirects + 1):
            permitted(url)
            try:
                async with client.stream("GET", url) as response:
                    if response.status_code not in _REDIRECTS:
                        return await self._body(response)
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

    async def _body(self, response: httpx.Response) -> bytes:
        shown = _shown(response.url)
        if response.status_code != httpx.codes.OK:
            raise JwksUnavailable(f"{shown}: status {response.status_code}")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise JwksUnavailable(f"{shown}: a packed answer (content-encoding), which was not asked for")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self.limits.max_body_bytes:
                raise JwksUnavailable(f"{shown}: more than {self.limits.max_body_bytes} bytes")
        return bytes(body)


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
    try:
        found = httpx.URL(text) if base is None else base.join(text)
        # Punycode is decoded when the host is asked for.
        _ = found.host
    except (httpx.InvalidURL, ValueError):
        raise JwksUnavailable(f"{text[:200]!a}: not a URL") from None
    return found


def _shown(url: httpx.URL) -> str:
    """Without user, password and query: what reaches logs holds no secrets."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    port = "" if url.port is None else f":{url.port}"
    return f"{url.scheme}://{host}{port}{url.path}"
