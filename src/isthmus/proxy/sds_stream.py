"""The SDS protocol for one stream, without IO: requests and new secrets in, responses out.

Both forms that Envoy speaks (xDS protocol, "Incremental xDS" and "State of the World"). A secret that is planned but
not there yet is not answered: Envoy waits for it, at most its ``initial_fetch_timeout``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from isthmus.envoy_api.packages import discovery_v3

SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105


@dataclass(frozen=True, slots=True)
class ServedSecret:
    """One secret as Envoy gets it: ``packed`` is a google.protobuf.Any of a Secret. ``version`` follows its content."""

    name: str
    version: str
    packed: Any = field(repr=False, compare=False)


class OnDemand(Protocol):
    """Secrets whose names are not planned one by one."""

    def knows(self, name: str) -> bool:
        """Whether there is, or may come, a secret of this name."""

    def find(self, name: str) -> ServedSecret | None:
        """The secret, if it is there already."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What one proxy may ask for: the names that are planned, and those of them that are there."""

    planned: frozenset[str] = frozenset()
    served: Mapping[str, ServedSecret] = field(default_factory=dict)
    on_demand: OnDemand | None = field(default=None, compare=False)
    """Whoever finds what is neither; what it holds changes without a new value of this."""

    def find(self, name: str) -> ServedSecret | None:
        found = self.served.get(name)
        return self.on_demand.find(name) if found is None and self.on_demand is not None else found

    def is_planned(self, name: str) -> bool:
        return name in self.planned or (self.on_demand is not None and self.on_demand.knows(name))


Refused = Callable[[str, str], None]
"""Hears of a NACK: (names, Envoy's words)."""


class SdsStream(Protocol):
    def receive(self, request: Any, secrets: Secrets) -> list[Any]:
        """Answer a request of Envoy's."""

    def publish(self, secrets: Secrets) -> list[Any]:
        """Answer a change of the secrets."""

    def lacks(self, name: str, version: str) -> bool:
        """Whether the client asks for ``name`` and has not confirmed that it took this version."""


class WholeStream:
    """StreamSecrets: DiscoveryRequest in, DiscoveryResponse out."""

    def __init__(self, refused: Refused) -> None:
        self._refused = refused
        self._names: frozenset[str] = frozenset()
        self._sent: dict[str, str] = {}
        self._taken: dict[str, str] = {}
        self._nonce = 0

    def receive(self, request: Any, secrets: Secrets) -> list[Any]:
        if request.HasField("error_detail"):
            self._refused(", ".join(sorted(request.resource_names)), request.error_detail.message)
        if request.response_nonce and request.response_nonce != str(self._nonce):
            # Of an answer that another one has overtaken: to be ignored.
            return []
        if request.response_nonce and not request.HasField("error_detail"):
            self._taken = dict(self._sent)
        self._names = frozenset(request.resource_names)
        self._sent = {name: version for name, version in self._sent.items() if name in self._names}
        return self.publish(secrets)

    def publish(self, secrets: Secrets) -> list[Any]:
        wanted = {name: secrets.served[name] for name in sorted(self._names) if name in secrets.served}
        versions = {name: secret.version for name, secret in wanted.items()}
        if all(self._sent.get(name) == version for name, version in versions.items()):
            return []
        self._sent = versions
        self._nonce += 1
        return [
            discovery_v3.DiscoveryResponse(
                version_info=str(self._nonce),
                type_url=SECRET_TYPE,
                nonce=str(self._nonce),
                resources=[secret.packed for secret in wanted.values()],
            )
        ]

    def lacks(self, name: str, version: str) -> bool:
        return name in self._names and self._taken.get(name) != version


class DeltaStream:
    """DeltaSecrets: DeltaDiscoveryRequest in, DeltaDiscoveryResponse out."""

    def __init__(self, refused: Refused) -> None:
        self._refused = refused
        self._names: set[str] = set()
        self._sent: dict[str, str | None] = {}
        """None: told that there is no such secret."""
        self._taken: dict[str, str | None] = {}
        self._nonce = 0

    def receive(self, request: Any, secrets: Secrets) -> list[Any]:
        if request.HasField("error_detail"):
            self._refused(", ".join(sorted(self._names)), request.error_detail.message)
        elif request.response_nonce == str(self._nonce):
            self._taken = dict(self._sent)
        for name in request.resource_names_unsubscribe:
            self._names.discard(name)
            self._sent.pop(name, None)
        for name in request.resource_names_subscribe:
            self._names.add(name)
            # Asked for again means: send again.
            self._sent.pop(name, None)
        for name, version in request.initial_resource_versions.items():
            if name in self._names:
                self._sent[name] = version
        return self.publish(secrets)

    def publish(self, secrets: Secrets) -> list[Any]:
        changed: list[ServedSecret] = []
        removed: list[str] = []
        for name in sorted(self._names):
            secret = secrets.find(name)
            if secret is not None and self._sent.get(name) != secret.version:
                changed.append(secret)
                self._sent[name] = secret.version
            elif secret is None and not secrets.is_planned(name) and self._sent.get(name, "") is not None:
                removed.append(name)
                self._sent[name] = None
        if not changed and not removed:
            return []
        self._nonce += 1
        return [
            discovery_v3.DeltaDiscoveryResponse(
                type_url=SECRET_TYPE,
                nonce=str(self._nonce),
                removed_resources=removed,
                resources=[
                    discovery_v3.Resource(name=secret.name, version=secret.version, resource=secret.packed)
                    for secret in changed
                ],
            )
        ]

    def lacks(self, name: str, version: str) -> bool:
        return name in self._names and self._taken.get(name) != version
