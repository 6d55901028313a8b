"""What one Envoy should have: resources as bytes, built once, each with its version and where it comes from.

A resource is serialised when it is built and never again: every proxy and every stream that gets it shares the same
bytes, since building messages, not sending them, is what a control plane in Python spends its time on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from isthmus.diag import Origin
from isthmus.envoy_api import Message, any_of, unpack
from isthmus.envoy_api.packages import discovery_v3

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
"""HTTP filters whose configuration is discovered apart from their listener (ECDS): see ``xds/extension.py``."""
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 (a type's name)

_VERSION_BYTES = 16


@dataclass(frozen=True, slots=True)
class Built:
    """One resource, ready to be sent.

    ``version`` is a hash of the content: 32 hexadecimal digits, the same in every process. ``wire`` is a whole
    serialised ``envoy.service.discovery.v3.Resource`` (name, version and the message in its Any); :func:`message`
    opens it. ``origins`` say which manifests it was made from, the most telling first.
    """

    name: str
    type_url: str
    version: str
    wire: bytes = field(repr=False)
    origins: tuple[Origin, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything one proxy should have, by type URL and name.

    ``version`` is a hash over all names and versions; a change of origins alone (a line that moved) leaves it as it is,
    and yet makes another Snapshot, so that a refusal names the line where the resource stands now.
    """

    version: str
    resources: Mapping[str, Mapping[str, Built]] = field(repr=False)

    def of(self, type_url: str) -> Mapping[str, Built]:
        """The resources of one type, by name; none for a type that the snapshot does not have."""
        return self.resources.get(type_url, _NOTHING)


_NOTHING: Mapping[str, Built] = MappingProxyType({})


def build(name: str, message: Message, origins: Iterable[Origin] = ()) -> Built:
    """Serialise ``message`` (a Cluster, a Listener …), the same way every time, as the resource ``name``."""
    packed = any_of(message)
    version = hashlib.blake2b(packed.value, digest_size=_VERSION_BYTES).hexdigest()
    resource = discovery_v3.Resource(name=name, version=version, resource=packed)
    return Built(name, packed.type_url, version, resource.SerializeToString(deterministic=True), tuple(origins))


def message(built: Built) -> Message:
    """The message inside a built resource: for people, drift and tests, not for the way to Envoy."""
    return unpack(discovery_v3.Resource.FromString(built.wire).resource)


def snapshot(builts: Iterable[Built]) -> Snapshot:
    """Gather resources. Raises ValueError when two of one type share a name: Envoy would refuse the whole response."""
    resources: dict[str, dict[str, Built]] = {}
    for built in builts:
        of_type = resources.setdefault(built.type_url, {})
        if built.name in of_type:
            raise ValueError(f"two resources of type {built.type_url} are named {built.name!r}")
        of_type[built.name] = built
    digest = hashlib.blake2b(digest_size=_VERSION_BYTES)
    for type_url in sorted(resources):
        for name, built in sorted(resources[type_url].items()):
            digest.update(f"{type_url}\0{name}\0{built.version}\n".encode())
    return Snapshot(digest.hexdigest(), {type_url: MappingProxyType(found) for type_url, found in resources.items()})


EMPTY = snapshot(())
