"""What the control plane knows beside the manifests: asked, settled and gathered, as a World."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Protocol

from isthmus.compile import Compiled
from isthmus.control.desired import (
    Node,
    fixed_places,
    home_decision_places,
    isolated_places,
    isolated_sidecars,
    listening_places,
    metrics_places,
    workload_api_places,
)
from isthmus.control.inputs import Inputs
from isthmus.control.oidc import LoginSecrets
from isthmus.control.remote import carried, left_behind, remote_places, sidecar_ids, unhealthy
from isthmus.control.transition import Transition, new_places
from isthmus.model.world import Address, PortKey, World


class Ports(Protocol):
    """Where listeners get their ports from."""

    def settle(self, wanted: Mapping[PortKey, str], taken: frozenset[PortKey]) -> Mapping[PortKey, Address]: ...


class Credentials(Protocol):
    """Where the outbound proxies' credentials come from."""

    def settle(self, proxies: Iterable[str]) -> Mapping[str, str]: ...


class Learning:
    """Makes a World of what others learnt and of what is settled here: ports and credentials."""

    def __init__(
        self,
        node: Node,
        inputs: Inputs,
        ports: Ports,
        credentials: Credentials,
        svid_ttl: timedelta,
        transition: Transition | None,
        login_secrets: LoginSecrets | None,
    ) -> None:
        self._node = node
        self._inputs = inputs
        self._ports = ports
        self._credentials = credentials
        self._svid_ttl = svid_ttl
        self._transition = transition
        self._login_secrets = login_secrets

    def learn(self, compiled: Compiled, before: World | None) -> World:
        """``before``: what was known until now; None: nothing, at a start."""
        mesh = compiled.mesh
        folders = self._node.folders
        isolated = isolated_sidecars(mesh, self._node)
        addresses = dict(self._ports.settle(listening_places(mesh, isolated), self._inputs.taken))
        addresses.update(fixed_places(mesh))
        addresses.update(metrics_places(mesh, self._node))
        addresses.update(workload_api_places(mesh, self._node))
        addresses.update(home_decision_places(mesh, self._node))
        addresses.update(remote_places(mesh, self._inputs.offers))
        if folders is not None:
            addresses.update(isolated_places(mesh, isolated, folders, redirects=self._node.redirects))
        if not self._node.runs:
            addresses = carried(mesh, addresses)
        starting = self._starting(addresses, before)
        self._inputs.taken = self._inputs.opened = frozenset()
        credentials = self._credentials.settle(sidecar_ids(mesh))
        jwks = {(source.issuer, source.uri): keys for source, keys in self._inputs.jwks.items()}
        sockets = str(folders.runtime) if folders is not None else ""
        unwell = unhealthy(mesh, self._inputs.well)
        return World(
            addresses,
            jwks,
            credentials,
            self._svid_ttl,
            isolated,
            sockets,
            starting,
            unhealthy=unwell,
            revoked=self._inputs.revoked | left_behind(mesh, self._inputs.evicted),
            revoked_certificates=self._inputs.revoked_certificates,
            shut_out=self._inputs.shut_out,
            crls=self._inputs.revocation.crls,
            staples=self._inputs.revocation.staples,
            unstapled=self._inputs.revocation.unstapled,
            credential_store=self._inputs.credential_store,
            rego_bundles=self._inputs.rego_bundles,
            providers=self._inputs.providers,
            login_secrets=self._login_secrets.versions(compiled) if self._login_secrets is not None else {},
        )

    def _starting(self, addresses: Mapping[PortKey, Address], before: World | None) -> frozenset[PortKey]:
        """At a start what runs counts as open: who restarts the control plane takes nobody's endpoints away."""
        if self._transition is None:
            return frozenset()
        if before is None:
            return frozenset(key for key in new_places(addresses, World()) if not self._transition.runs(key.proxy))
        known = (before.starting - self._inputs.opened) & addresses.keys()
        return known | new_places(addresses, before)
