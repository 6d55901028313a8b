"""What the control plane is told when it is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from isthmus.model.world import Address, Doors
from isthmus.proxy.ports import Published


@dataclass(frozen=True, slots=True)
class BundleEndpoint:
    """Where our bundle is served. ``certificate`` and ``key``: files, for https_web; None: our own SVID."""

    at: Address
    certificate: Path | None = None
    key: Path | None = None
    refresh_hint: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What ``isthmus serve`` is told."""

    paths: tuple[str, ...]
    state: Path
    published: tuple[Published, ...] = ()
    jwks_files: Mapping[str, Path] = field(default_factory=dict)
    jwks_refresh: timedelta = timedelta(minutes=20)
    svid_ttl: timedelta = timedelta(hours=1)
    strict: bool = False
    ca: Path | None = None
    """A folder with the certificate authority to sign with; None: a Secret's, or the state's own."""
    supervisor: int | None = None
    """The pid of ``up``, whose pipe is our standard input; None: on our own."""
    bundle_endpoint: BundleEndpoint | None = None
    spire: Path | None = None
    """The Workload API of another authority of the trust domain, whose SVIDs proxies may have."""
    listen: Address | None = None
    """Where other machines find ADS, certificates and plans; None: there are none."""
    enrol: Address | None = None
    """Where they show their join tokens; None: at the next port."""
    advertised: str = ""
    """What other machines are told to call."""
    node_grace: timedelta = timedelta(seconds=30)

    @property
    def reach(self) -> Doors | None:
        """Where other machines find this control plane."""
        if self.listen is None:
            return None
        enrol = self.enrol or Address(self.listen.host, self.listen.port + 1)
        return Doors(Address(self.advertised or self.listen.host, self.listen.port), enrol)
