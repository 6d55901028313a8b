"""Trust bundles of the tests' own making."""

from __future__ import annotations

from isthmus.federation.source import BundleSource
from isthmus.model.federation import BundleEndpointProfile
from isthmus.model.spiffe_bundle import SpiffeBundle
from tests.real.pki import Authority

TD = "td2.example"
ENDPOINT = f"spiffe://{TD}/endpoint"


def root(name: str = "root") -> str:
    return Authority(name).pem.decode()


def bundle(*roots: str, **more: object) -> SpiffeBundle:
    return SpiffeBundle(roots or (root(),), **more)  # type: ignore[arg-type]


def web(url: str = "https://localhost/", anchor: SpiffeBundle | None = None) -> BundleSource:
    return BundleSource(TD, url, BundleEndpointProfile.https_web, None, anchor)


def spiffe(url: str, anchor: SpiffeBundle | None) -> BundleSource:
    return BundleSource(TD, url, BundleEndpointProfile.https_spiffe, ENDPOINT, anchor)
