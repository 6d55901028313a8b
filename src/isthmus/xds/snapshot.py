"""What one Envoy should have: resources as bytes, built once, each with its version and where it comes from.

A resource is serialised when it is built and never again: every proxy and every stream that gets it shares the same
bytes, since building messages, not sending them, is what a control plane in Python spends its time on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Set
from copy import copy
from dataclasses import dataclass, field
from itertools import chain
from operator import is_
from typing import Any
from weakref import ref

from isthmus.diag import Origin
from isthmus.envoy_api import Message, any_of, unpack
from isthmus.envoy_api.packages import discovery_v3
from isthmus.model.reading import Made

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
"""HTTP filters whose configuration is discovered apart from their listener (ECDS): see ``xds/extension.py``."""
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 (a type's name)

_VERSION_BYTES = 16
_LENGTH_DELIMITED = 2  # a wire type
_DIGESTS = 1 << 8 * _VERSION_BYTES


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


class Shared(Mapping[str, Built]):
    """Resources of one type that several proxies have: held once, whoever has them. Never changed."""

    __slots__ = ("__weakref__", "_before", "_found", "_over", "_unlike", "_wire")

    def __init__(self, found: Mapping[str, Built]) -> None:
        self._found = found
        self._before: Callable[[], Shared | None] = lambda: None
        self._unlike: tuple[str, ...] = ()
        self._wire: bytes | None = None
        self._over: Layered | None = None

    def __getitem__(self, name: str) -> Built:
        return self._found[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self._found.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def is_all_of(self, other: Shared) -> bool:
        """Whether both are the same resources in the same order."""
        ours, theirs = self._found, other._found
        return list(ours) == list(theirs) and all(map(is_, ours.values(), theirs.values()))

    @property
    def names(self) -> KeysView[str]:
        return self._found.keys()

    def over(self, shared: Shared) -> Layered:
        """A proxy's own resources over those that it shares: the very object of the last time for the same."""
        if self._over is None or self._over.shared is not shared:
            self._over = Layered(self, shared)
        return self._over

    def wire(self, tag: int) -> bytes:
        """See :func:`wire`; every caller has the same ``tag``."""
        if self._wire is None:
            self._wire = b"".join(part for built in self._found.values() for part in delimited(tag, built.wire))
        return self._wire

    def unlike(self, before: Shared) -> tuple[str, ...]:
        """The names that came, changed or went since ``before``. All who go the same step ask the same: found once."""
        if before is self:
            return ()
        if self._before() is not before:
            gone = (name for name in before if name not in self._found)
            new = (name for name, built in self._found.items() if before._found.get(name) is not built)
            self._before, self._unlike = ref(before), (*new, *gone)
        return self._unlike


class Layered(Mapping[str, Built]):
    """The resources of one type: a proxy's own, then those that it shares; a name stands in one of the two."""

    __slots__ = ("own", "shared")

    def __init__(self, own: Mapping[str, Built], shared: Shared) -> None:
        self.own = own
        self.shared = shared

    def __getitem__(self, name: str) -> Built:
        found = self.own.get(name)
        return self.shared[name] if found is None else found

    def get(self, name: str, default: Any = None) -> Any:
        found = self.own.get(name)
        return self.shared.get(name, default) if found is None else found

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.shared

    def __iter__(self) -> Iterator[str]:
        return chain(self.own, self.shared)

    def __len__(self) -> int:
        return len(self.own) + len(self.shared)


def names_of(resources: Mapping[str, Built]) -> Set[str]:
    """As ``resources.keys()``, and fast to compare."""
    own, shared = _layers(resources)
    return own.keys() | shared.names if own else shared.names


def wire(resources: Mapping[str, Built], tag: int) -> bytes:
    """All ``resources`` as elements of the repeated field ``tag``; what is shared is put together once for all."""
    own, shared = _layers(resources)
    return b"".join((*(part for built in own.values() for part in delimited(tag, built.wire)), shared.wire(tag)))


def unlike(before: Mapping[str, Built], after: Mapping[str, Built]) -> tuple[str, ...]:
    """The names that came, changed (if only in origins) or went; those that are shared are compared once for all.

    A name that moves between what is shared and what is a proxy's own may be among them, though nothing changed.
    """
    if before is after:
        return ()
    (own, shared), (own_after, shared_after) = _layers(before), _layers(after)
    names = [name for name in {**own_after, **own} if before.get(name) is not after.get(name)]
    shared_names = shared_after.unlike(shared)
    return tuple(dict.fromkeys((*names, *shared_names))) if names else shared_names


def _layers(resources: Mapping[str, Built]) -> tuple[Mapping[str, Built], Shared]:
    if isinstance(resources, Layered):
        return resources.own, resources.shared
    return (NOTHING, resources) if isinstance(resources, Shared) else (resources, NOTHING)


class Layer(Made):
    """Resources of all types that several proxies have. By type URL.

    ``digest`` adds up over resources, so that it says what there is, however it is divided into layers.
    """

    __slots__ = ("digest", "resources")

    def __init__(self, resources: Mapping[str, Shared]) -> None:
        self.resources = resources
        self.digest = sum(_digest(built) for of_type in resources.values() for built in of_type.values()) % _DIGESTS

    def made_of(self, last: Layer) -> Layer:
        """Of the resources of ``last`` where they are the same."""
        found = {
            type_url: before if (before := last.resources.get(type_url)) is not None and before.is_all_of(now) else now
            for type_url, now in self.resources.items()
        }
        if list(found) == list(last.resources) and all(map(is_, found.values(), last.resources.values())):
            return last
        made = copy(self)
        made.resources = found
        return made


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
        return self.resources.get(type_url, NOTHING)


NOTHING = Shared({})
"""No resources."""


def build(name: str, message: Message, origins: Iterable[Origin] = ()) -> Built:
    """Serialise ``message`` (a Cluster, a Listener …), the same way every time, as the resource ``name``."""
    packed = any_of(message)
    version = hashlib.blake2b(packed.value, digest_size=_VERSION_BYTES).hexdigest()
    resource = discovery_v3.Resource(name=name, version=version, resource=packed)
    return Built(name, packed.type_url, version, resource.SerializeToString(deterministic=True), tuple(origins))


def build_joined(name: str, message: Message, rest: Iterable[bytes], origins: Iterable[Origin] = ()) -> Built:
    """As :func:`build`, of ``message`` and the fields in ``rest``, which are serialised already: see :func:`repeated`.

    Of a thousand virtual hosts, those that did not change are neither built nor serialised again. Serialised fields one
    behind the other are a message (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
    """
    packed = any_of(message)
    packed.value = b"".join((packed.value, *rest))
    version = hashlib.blake2b(packed.value, digest_size=_VERSION_BYTES).hexdigest()
    resource = discovery_v3.Resource(name=name, version=version, resource=packed)
    return Built(name, packed.type_url, version, resource.SerializeToString(deterministic=True), tuple(origins))


def repeated(kind: type[Message], field_name: str, elements: Iterable[Message]) -> bytes:
    """``elements`` as the repeated field ``field_name`` of a message of ``kind``, serialised; the same every time."""
    tag = kind.DESCRIPTOR.fields_by_name[field_name].number << 3 | _LENGTH_DELIMITED
    wires = (element.SerializeToString(deterministic=True) for element in elements)
    return b"".join(part for wire in wires for part in delimited(tag, wire))


def delimited(tag: int, element: bytes) -> tuple[bytes, bytes, bytes]:
    """One serialised message as an element of a repeated field; ``tag`` is its number and wire type."""
    return varint(tag), varint(len(element)), element


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first, the top bit set on all but the last."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def message(built: Built) -> Message:
    """The message inside a built resource: for people, drift and tests, not for the way to Envoy."""
    return unpack(discovery_v3.Resource.FromString(built.wire).resource)


def layer(builts: Iterable[Built]) -> Layer:
    """Gather resources to be shared; of two of one type and name, the first."""
    resources: dict[str, dict[str, Built]] = {}
    for built in builts:
        resources.setdefault(built.type_url, {}).setdefault(built.name, built)
    return Layer({type_url: Shared(found) for type_url, found in resources.items()})


NO_LAYER = Layer({})


def snapshot(builts: Iterable[Built], shared: Layer = NO_LAYER) -> Snapshot:
    """Gather a proxy's own resources, before those that it shares: of these, none of a name that is its own.

    Raises ValueError when two of its own of one type share a name: Envoy would refuse the whole response.
    """
    resources: dict[str, dict[str, Built]] = {}
    for built in builts:
        of_type = resources.setdefault(built.type_url, {})
        if built.name in of_type:
            raise ValueError(f"two resources of type {built.type_url} are named {built.name!r}")
        of_type[built.name] = built
    return stack(Layer({type_url: Shared(found) for type_url, found in resources.items()}), shared)


def stack(top: Layer, shared: Layer) -> Snapshot:
    """A proxy's own resources over those that it shares."""
    digest = top.digest + shared.digest
    found: dict[str, Mapping[str, Built]] = dict(shared.resources)
    for type_url, own in top.resources.items():
        others = shared.resources.get(type_url, NOTHING)
        if own.names.isdisjoint(others.names):
            found[type_url] = own.over(others)
        else:
            digest -= sum(_digest(others[name]) for name in own if name in others)
            found[type_url] = Layered({**others, **own}, NOTHING)
    return Snapshot(f"{digest % _DIGESTS:032x}", found)


def overlay(found: Snapshot, builts: Iterable[Built]) -> Snapshot:
    """``found`` with ``builts``, in the place of what has their type and name."""
    added: dict[str, dict[str, Built]] = {}
    for built in builts:
        added.setdefault(built.type_url, {})[built.name] = built
    digest, resources = int(found.version, 16), dict(found.resources)
    for type_url, own in added.items():
        before = found.of(type_url)
        digest += sum(map(_digest, own.values())) - sum(_digest(before[name]) for name in own if name in before)
        top, shared = _layers(before)
        if not own.keys().isdisjoint(shared):
            top, shared = {**shared, **top}, NOTHING
        resources[type_url] = Layered({**top, **own}, shared)
    return Snapshot(f"{digest % _DIGESTS:032x}", resources)


def _digest(built: Built) -> int:
    """Of what the resource is, without its origins."""
    text = f"{built.type_url}\0{built.name}\0{built.version}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=_VERSION_BYTES).digest())


EMPTY = snapshot(())
