"""Federation in the control plane: others' bundles go to the nodes with the plan, ours to whoever asks for it."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from isthmus.api.bundle_endpoint import build_bundle_endpoint, run_bundle_endpoint, server_context, show
from isthmus.api.listening import patiently, tcp_socket
from isthmus.control.control_plane import ControlPlane
from isthmus.federation.own import OWN_FILE, Published, publish, read_published
from isthmus.federation.server import FederationService
from isthmus.federation.source import BundleSource
from isthmus.identity.server import TlsMaterial
from isthmus.keeping import Keeping
from isthmus.model.spiffe_bundle import SpiffeBundle
from isthmus.proxy.plan import TrustBundle
from isthmus.serve.options import BundleEndpoint

logger = logging.getLogger(__name__)

_LOOK = timedelta(seconds=1)


class Federation:
    def __init__(self, plane: ControlPlane, service: FederationService) -> None:
        self._plane = plane
        self._service = service

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(self._service.run(), self._watch(), self._follow())

    async def _watch(self) -> None:
        """Follow what the manifests federate with."""
        self._take()
        async for _ in self._plane.turns:
            self._take()

    def _take(self) -> None:
        self._service.watch(frozenset(map(BundleSource.of, self._plane.mesh.federated)))

    async def _follow(self) -> None:
        """New bundles go to the nodes at once."""
        async for status in self._service.status:
            found = tuple(
                TrustBundle(name, one.bundle.roots, jwt_keys=one.bundle.jwt_keys)
                for name, one in sorted(status.items())
                if one.bundle is not None
            )
            if found != self._plane.inputs.federated:
                self._plane.inputs.federated = found
                self._plane.trust_changed()


class OwnBundle:
    """Our own bundle as it is to be published now."""

    def __init__(
        self,
        roots: Callable[[], tuple[str, ...]],
        jwt_keys: Callable[[], tuple[str, ...]],
        hint: timedelta,
        keeping: Keeping,
        clock: Callable[[], datetime],
    ) -> None:
        self._roots = roots
        self._jwt_keys = jwt_keys
        self._hint = hint
        self._keeping = keeping
        self._clock = clock
        self._last: Published | None = read_published(keeping.read(OWN_FILE))

    @property
    def bundle(self) -> SpiffeBundle:
        bundle, now = publish(self._roots(), self._jwt_keys(), self._hint, self._last, self._clock())
        if now != self._last:
            self._last = now
            self._keeping.write_private(OWN_FILE, now.to_json().encode())
        return bundle


async def serve_bundle(wanted: BundleEndpoint, own: OwnBundle, tls: Callable[[], TlsMaterial]) -> None:
    """Our bundle endpoint, until cancelled. ``tls``: our own SVID."""
    context = server_context()
    shown: bytes | None = None

    def renew() -> None:
        nonlocal shown
        chain, key = _certificate(wanted, tls)
        if chain != shown:
            show(context, chain, key)
            shown = chain

    told = _try(renew, "no certificate, and so no connection, yet", "")

    async def keep_showing() -> None:
        nonlocal told
        while True:
            await asyncio.sleep(_LOOK.total_seconds())
            told = _try(renew, "the certificate stays as it was" if shown else "no certificate yet", told)

    listening = await patiently(f"https://{wanted.at}", lambda: tcp_socket(wanted.at.host, wanted.at.port))
    app = build_bundle_endpoint(lambda: own.bundle.to_json())
    await asyncio.gather(run_bundle_endpoint(app, listening, context), keep_showing())


def _try(renew: Callable[[], None], otherwise: str, told: str) -> str:
    """What is wrong, which is logged once: what others fetch is no reason to start nothing. ``told``: the last time."""
    try:
        renew()
    except (OSError, ssl.SSLError) as fault:
        why = _in_words(fault)
        if why != told:
            logger.error("bundle endpoint: %s: %s", otherwise, why)
        return why
    return ""


def _in_words(fault: OSError) -> str:
    if not isinstance(fault, ssl.SSLError):
        return str(fault)
    if fault.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    return "certificate and key are wanted in PEM, the key without a password"


def _certificate(wanted: BundleEndpoint, tls: Callable[[], TlsMaterial]) -> tuple[bytes, bytes]:
    if wanted.certificate is not None and wanted.key is not None:
        return wanted.certificate.read_bytes(), wanted.key.read_bytes()
    own = tls().own
    return "".join(own.svid.chain).encode(), own.key.pem


def federation_gauges(service: FederationService) -> Mapping[str, Mapping[tuple[str, ...], float]]:
    """For the control plane's metrics."""
    known = service.status.value
    fetched: dict[tuple[str, ...], float] = {
        (name,): one.fetched_at.timestamp() for name, one in known.items() if one.fetched_at is not None
    }
    return {
        "isthmus_federation_bundle_timestamp_seconds": fetched,
        "isthmus_federation_overdue": {(name,): float(one.overdue) for name, one in known.items()},
    }
