"""A delta ADS client that asks for what an Envoy asks for and confirms what it gets, without being one.

A stream of its own on a connection of its own: clusters and listeners by wildcard, then the endpoints, routes and
filters that those name. Messages are taken apart byte by byte, as far as an answer needs it, so that a thousand of
these leave the machine to the control plane.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import core_v3, discovery_v3
from isthmus.xds.snapshot import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE

_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
_Resource = tuple[str, bytes]


def _fields(data: bytes, at: int = 0) -> Iterator[tuple[int, int, int]]:
    """The length-delimited fields of a message: number, begin and end (the protobuf wire format)."""
    end = len(data)
    while at < end:
        tag, at = _varint(data, at)
        length, at = _varint(data, at)
        assert tag & 7 == 2, "discovery responses have no other fields"
        yield tag >> 3, at, at + length
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


@dataclass(slots=True)
class Seen:
    """Bodies of responses that some proxy has taken apart already, by length and checksum: most are the same."""

    names: dict[tuple[int, int], tuple[str, ...]] = field(default_factory=dict)
    wanted: dict[tuple[int, int], tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)


@dataclass(slots=True)
class SimulatedProxy:
    """One proxy. ``changes`` wakes whoever waits; ``received`` counts bytes of responses by type URL."""

    id: str
    seen: Seen
    received: dict[str, int] = field(default_factory=dict)
    acked_at: dict[str, float] = field(default_factory=dict)
    """When the last response of a type was confirmed: time.monotonic."""
    complete_at: float | None = None
    """When everything that was asked for had been confirmed the first time."""
    _missing: dict[str, set[str]] = field(default_factory=dict)
    _asked: dict[str, set[str]] = field(default_factory=dict)

    async def run(self, target: str, credentials: Any = None, server_name: str = "") -> None:
        """Connect, and follow the stream until cancelled."""
        if credentials is None:
            channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        else:
            named = (*_OPTIONS, ("grpc.ssl_target_name_override", server_name))
            channel = grpc.aio.secure_channel(target, credentials, options=named)
        async with channel:
            call = channel.stream_stream(_METHOD, discovery_v3.DeltaDiscoveryRequest.SerializeToString)()
            node = core_v3.Node(id=self.id)
            await call.write(discovery_v3.DeltaDiscoveryRequest(node=node, type_url=CLUSTER))
            await call.write(discovery_v3.DeltaDiscoveryRequest(type_url=LISTENER))
            self._missing = {CLUSTER: {"*"}, LISTENER: {"*"}}
            while (response := await call.read()) is not grpc.aio.EOF:
                for request in self._answer(response):
                    await call.write(request)
                if self.complete_at is None and not any(self._missing.values()):
                    self.complete_at = time.monotonic()

    def _answer(self, response: bytes) -> list[Any]:
        texts, body = {}, len(response)
        for number, begin, end in _fields(response):
            if number == 2:  # resources stand last
                body = begin
                break
            texts[number] = response[begin:end].decode()
        type_url, nonce = texts[4], texts[5]
        self.received[type_url] = self.received.get(type_url, 0) + len(response)
        key = (len(response) - body, zlib.crc32(memoryview(response)[body:]))
        if key not in self.seen.names:
            self.seen.names[key] = tuple(_names(response))
        names = self.seen.names[key]
        self._missing.setdefault(type_url, set()).difference_update(names, {"*"})
        requests = [discovery_v3.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce)]
        if type_url == CLUSTER:
            requests += self._ask(ENDPOINT, tuple(name for name in names if name.startswith("outbound|")))
        elif type_url == LISTENER:
            if key not in self.seen.wanted:
                self.seen.wanted[key] = _named_by_listeners(response)
            routes, extensions = self.seen.wanted[key]
            requests += self._ask(ROUTE, routes) + self._ask(EXTENSION, extensions)
        self.acked_at[type_url] = time.monotonic()
        return requests

    def _ask(self, type_url: str, names: tuple[str, ...]) -> list[Any]:
        asked = self._asked.setdefault(type_url, set())
        new = [name for name in names if name not in asked]
        if not new:
            return []
        asked.update(new)
        self._missing.setdefault(type_url, set()).update(new)
        return [discovery_v3.DeltaDiscoveryRequest(type_url=type_url, resource_names_subscribe=new)]


def _names(response: bytes) -> Iterator[str]:
    for number, begin, end in _fields(response):
        if number == 2:
            resource = response[begin:end]
            yield next(resource[a:b].decode() for field_, a, b in _fields(resource) if field_ == 3)


def _named_by_listeners(response: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The route configurations and the filters that the listeners of a response want."""
    routes: dict[str, None] = {}
    extensions: dict[str, None] = {}
    for resource in discovery_v3.DeltaDiscoveryResponse.FromString(response).resources:
        listener: Any = unpack(resource.resource)
        filters = [one for chain in listener.filter_chains for one in chain.filters]
        for one in filters:
            if one.typed_config.type_url.endswith("HttpConnectionManager"):
                hcm: Any = unpack(one.typed_config)
                if hcm.rds.route_config_name:
                    routes[hcm.rds.route_config_name] = None
                found = (each.name for each in hcm.http_filters if each.WhichOneof("config_type") == "config_discovery")
                extensions.update(dict.fromkeys(found))
    return tuple(routes), tuple(extensions)


async def until(met: Any, seconds: float) -> float:
    """Poll until ``met()`` holds; when that was."""
    async with asyncio.timeout(seconds):
        while not met():
            await asyncio.sleep(0.005)
    return time.monotonic()
