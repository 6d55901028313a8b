"""Where the files and sockets of one proxy are, and what its Envoy is started with because of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from isthmus.model.decision import DecisionService
from isthmus.model.key_lookup import SOCKET as KEYS_SOCKET
from isthmus.model.world import Address
from isthmus.proxy.plan import Plan, PlannedProxy
from isthmus.xds.bootstrap import BootstrapSettings
from isthmus.xds.relay import RELAY_ID, RelaySettings


@dataclass(frozen=True, slots=True)
class Folders:
    """``state``: the state directory. ``runtime``: the short folder of Unix sockets, 0700, gone after the end."""

    state: Path
    runtime: Path

    @property
    def logs(self) -> Path:
        return self.state / "log"

    def log(self, proxy_id: str) -> Path:
        """Envoy's own log (its standard error)."""
        return self.logs / f"{proxy_id}.log"

    def access_log(self, proxy_id: str) -> Path:
        """One JSON line a request (Envoy's standard output)."""
        return self.logs / f"{proxy_id}.access.log"

    def decision_log(self, service: str) -> Path:
        """One JSON line a decision, of one process of the Rego service."""
        return self.logs / f"{service}.decisions.log"

    @property
    def handshakes_log(self) -> Path:
        """One JSON line a failed TLS handshake, of all proxies."""
        return self.logs / "handshakes.log"

    def admin_socket(self, proxy_id: str) -> Path:
        return self.runtime / f"{_short(proxy_id)}.admin"

    def admin_sockets(self) -> Iterator[Path]:
        """Those of all Envoys that run from here."""
        return self.runtime.glob("*.admin")

    def sds_socket(self, proxy_id: str) -> Path:
        return self.runtime / f"{_short(proxy_id)}.sds"

    def inbound_socket(self, proxy_id: str, port: int) -> Path:
        """Where callers find a port of an isolated workload: its sidecar listens there."""
        return self.runtime / f"{_short(proxy_id)}.{port}.in"

    def inbound_sockets(self, proxy_id: str) -> Iterator[Path]:
        """Those that are there now."""
        return self.runtime.glob(f"{_short(proxy_id)}.*.in")

    def relay_sockets(self) -> Iterator[Path]:
        """By which isolated sidecars reach what is outside."""
        return self.runtime.glob("*.out")

    def metrics_socket(self, proxy_id: str) -> Path:
        """Where an Envoy exports its metrics to; itself listens there while there is a receiver."""
        return self.runtime / f"{_short(proxy_id)}.metrics"

    def decision_socket(self, service: DecisionService, index: int) -> Path:
        """Where one process of a decision service answers this machine's Envoys."""
        return self.runtime / f"{service.value}-{index}.decide"

    @property
    def keys_socket(self) -> Path:
        """Where the process that checks API keys asks the control plane of another machine for them."""
        return self.runtime / KEYS_SOCKET

    @property
    def workload_socket(self) -> Path:
        """The SPIFFE Workload API, in a folder of its own, which programs may see that see nothing else of here."""
        return self.runtime / "workload" / "api.sock"

    @property
    def ads_socket(self) -> Path:
        """The control plane's port once more, for sidecars that have no way to it: mutual TLS as well."""
        return self.runtime / "ads.sock"

    def bootstrap(self, proxy_id: str) -> Path:
        return self.runtime / f"{_short(proxy_id)}.json"

    @property
    def holds_envoys(self) -> bool:
        """Whether Envoys were started from here and not ended since: they hold their ports."""
        return any(self.runtime.glob("*.json"))

    def output(self, namespace: str, name: str) -> Path:
        """What a local program printed."""
        return self.logs / f"{namespace}~{name}.out"


def bootstrap_settings(
    folders: Folders, plan: Plan, proxy: PlannedProxy, ads: Address | None = None
) -> BootstrapSettings:
    """What the Envoy of a planned proxy is started with. ``ads``: how its machine calls the control plane."""
    return BootstrapSettings(
        proxy_id=proxy.id,
        name=proxy.name,
        namespace=proxy.namespace,
        admin_socket=str(folders.admin_socket(proxy.id)),
        sds_socket=str(folders.sds_socket(proxy.id)),
        metrics_socket=str(folders.metrics_socket(proxy.id)),
        ads=Address.unix(str(folders.ads_socket)) if proxy.isolated else ads or plan.ads,
        control_plane_id=plan.control_plane_id,
    )


def relay_settings(folders: Folders) -> RelaySettings:
    """Of this machine's relay."""
    return RelaySettings(
        folder=str(folders.runtime),
        admin_socket=str(folders.admin_socket(RELAY_ID)),
        # Not .json, which would count as an Envoy's bootstrap.
        clusters=str(folders.runtime / "relay-clusters.yaml"),
        listeners=str(folders.runtime / "relay-listeners.yaml"),
    )


def _short(proxy_id: str) -> str:
    """A name of fixed length: Kubernetes names reach 253 bytes, a Unix socket's whole path only 103."""
    return hashlib.sha256(proxy_id.encode()).hexdigest()[:12]


def open_log(path: Path) -> IO[bytes]:
    """Open a log for appending, readable by its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")


def open_new(path: Path) -> IO[bytes]:
    """Open a file anew, readable by its owner alone."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb")
