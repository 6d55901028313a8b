"""A control plane without a machine: ports are counted, credentials named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from io import BytesIO

from isthmus.config.load import load
from isthmus.config.resource import Document
from isthmus.control.control_plane import ControlPlane
from isthmus.control.desired import Node
from isthmus.jwks.source import JwksSource
from isthmus.model.world import Address, PortKey

NODE = Node("local", Address("127.0.0.1", 19000), "/run/enrol.sock", "/usr/bin/python3")
ORDERS = """\
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {selector: {app: orders}, ports: [{name: http, port: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: orders-1, namespace: shop}
spec: {address: 127.0.0.1, labels: {app: orders}, ports: {http: 9080}}
"""
SIDECAR = "sidecar~shop~orders-1"


class CountedPorts:
    """Gives out the ports from 20000 on, the same for the same place."""

    def __init__(self) -> None:
        self._given: dict[PortKey, Address] = {}

    def settle(self, wanted: Mapping[PortKey, str], taken: frozenset[PortKey]) -> Mapping[PortKey, Address]:
        for key in taken:
            self._given[key] = Address(wanted[key], 30000)
        for key, interface in wanted.items():
            self._given.setdefault(key, Address(interface, 20000 + len(self._given)))
        return {key: self._given[key] for key in wanted}


class NamedCredentials:
    def settle(self, proxies: Iterable[str]) -> Mapping[str, str]:
        return {proxy: f"of {proxy}" for proxy in proxies}


def documents(*texts: str) -> tuple[Document, ...]:
    if not texts:
        return ()
    loaded = load(["-"], stdin=BytesIO("---\n".join(texts).encode()))
    assert not list(loaded.report)
    return loaded.documents


def plane_of(*texts: str, asked: list[frozenset[JwksSource]] | None = None) -> ControlPlane:
    node = Node("local", Address("127.0.0.1", 19000), "/run/enrol.sock", "python")
    watch = [].append if asked is None else asked.append
    plane = ControlPlane(node, CountedPorts(), NamedCredentials(), timedelta(hours=1), watch)
    plane.inputs.documents = documents(*texts)
    plane.rebuild()
    return plane
